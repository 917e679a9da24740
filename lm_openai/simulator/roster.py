"""Names in the demo organization, and the case that each project and key demonstrates."""

from __future__ import annotations

# name, case; traffic, limits and keys depend on the case
PROJECTS = (
    ("Customer Support", "support"),
    ("Data Platform", "hot"),
    ("Search & Retrieval", "pair"),
    ("Document Intelligence", "pair"),
    ("Ana's sandbox", "blocked"),
    ("Marketing", "renamed"),
    ("Legacy Chatbot (2024)", "archived"),
    ("Trust and Safety", "unlimited"),
    ("Übersetzung München", "translation"),
    ("batch-evaluation", "batch"),
    ("Voice Assistant", "voice"),
    ("Idle Prototype", "idle"),
)

PEOPLE = (
    ("Ana Moreira", "ana.moreira@acme.example"),
    ("Dmitri Volkov", "dmitri.volkov@acme.example"),
    ("Sean O'Neill", "sean.oneill@acme.example"),
    ("Søren Kjær", "soren.kjaer@acme.example"),
    ("Priya Raman", "priya.raman@acme.example"),
    ("Nguyễn Thị Hương", "huong.nguyen@acme.example"),
    ("Grace Okafor", "grace.okafor@acme.example"),
    ("Jürgen Weiß", "juergen.weiss@acme.example"),
    ("Left Already", "left.already@acme.example"),
    ("Li Wei", "li.wei@acme.example"),
    ("Maria del Carmen Ruiz", "maria.ruiz@acme.example"),
    ("Tom Becker", "tom.becker@acme.example"),
    ("Yuki Tanaka", "yuki.tanaka@acme.example"),
    ("Zoë Ångström", "zoe.angstrom@acme.example"),
)
DEPARTED = 8  # index of the person who left but whose key remains

# name, days since the last use (None: never used), days until expiry (None: never)
SPECIAL_KEYS: dict[str, tuple[str, int | None, int | None]] = {
    "support": ("rotation 2026", 3, 9),
    "hot": ("load test", 210, None),
    "pair": ("migration", 40, None),
    "blocked": ("experiment", None, None),
    "renamed": ("agency", 35, -12),
}

# name, days since creation, days since the last use, days until expiry
ADMIN_KEYS: tuple[tuple[str | None, int, int | None, int | None], ...] = (
    ("monitoring", 90, 0, 275),
    ("terraform", 400, 1, None),
    ("billing export", 30, 2, 20),
    (None, 650, None, None),
)
