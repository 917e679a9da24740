"""The requests of a cold poll with the vendor's SDK: projects, users, and usage twice."""

from __future__ import annotations

import os
import time

from openai import OpenAI

client = OpenAI(admin_api_key=os.environ["OPENAI_ADMIN_KEY"])
now = int(time.time())
organization = client.admin.organization
names = {one.id: one.name for one in organization.projects.list()}
names |= {one.id: one.email for one in organization.users.list()}
sums: dict[tuple[str | None, str | None], int] = {}
for width, start in (("1d", now - 7 * 86400), ("1m", now - 3600)):
    page = organization.usage.completions(
        start_time=start,
        end_time=now,
        bucket_width=width,  # type: ignore[arg-type]
        group_by=["project_id", "user_id"],
        limit=31 if width == "1d" else 60,
    )
    for bucket in page.data:
        for row in bucket.results:
            if row.object == "organization.usage.completions.result":
                group = row.project_id, row.user_id
                sums[group] = sums.get(group, 0) + row.input_tokens
for (project, user), tokens in sums.items():
    print(names.get(project or ""), names.get(user or ""), tokens)
