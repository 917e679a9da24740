"""Groovy scripts of the LogicModules: they run the collector and check what it prints.

A script hands the known properties of the resource to the collector on standard input, as JSON, and
its exit status is the collector's. What Groovy 2.4 lacks is not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lm_openai.config.registry import FAMILY, KEY, KEY_FILE, row, table
from lm_openai.hosts.jobs import COLLECTOR_SECONDS, HOST_SECONDS
from lm_openai.hosts.logicmonitor_module import CATEGORY, is_fixed
from lm_openai.metrics.usage import ORGANIZATION
from lm_openai.model.definition import Definition
from lm_openai.output.logicmonitor import UNJUDGED

COMMAND, ORGANIZATION_NAME = "openai.collector.command", "openai.org.name"

START = r"""
// The known openai. properties go to the collector, and no others.
def given = [:]
names.each { if (hostProps.get(it)) given[it] = hostProps.get(it).toString() }
hostProps.toProperties().each { name, value ->
    if (patterns.any { name ==~ it }) given[name.toString()] = value.toString()
}
def strange = hostProps.toProperties().keySet()*.toString().findAll { name ->
    name.startsWith('openai.') && !given.containsKey(name) && !(name in names) && !(name ==~ others)
}
if (strange) {
    System.err.println("not known, so without effect: ${strange.sort().join(', ')}")
}

// Whoever may edit a property may not start another program.
if (!(command ==~ /.*[\/\\]lm-openai(\.exe|\.pyz)?/)) {
    System.err.println("openai.collector.command: ${command} is not a path of lm-openai")
    return 1
}
def process
try {
    process = ([command] + arguments).execute()
} catch (IOException problem) {
    System.err.println("${command} cannot be started (${problem.message}): install lm-openai " +
        'on this Collector, or set openai.collector.command to its path')
    return 1
}
def out = new ByteArrayOutputStream()
def err = new ByteArrayOutputStream()
def readers = [process.consumeProcessOutputStream(out), process.consumeProcessErrorStream(err)]
try {
    process.outputStream.withStream { it.write(JsonOutput.toJson(given).getBytes('UTF-8')) }
} catch (IOException closed) {
    // It ended before it read its properties; its own words on stderr say why.
}
def ended = process.waitFor(seconds, TimeUnit.SECONDS)
if (!ended) process.destroyForcibly()
readers*.join(5000)
System.err.print(err.toString('UTF-8'))
if (!ended) {
    System.err.println("${command} was stopped after ${seconds} s; see openai.timeout")
    return 1
}
if (process.exitValue() != 0) return process.exitValue()
def lines = out.toString('UTF-8').readLines()
def foreign = lines.find { !(it ==~ form) }
if (foreign != null) {
    System.err.println("${command} printed an unexpected line: ${foreign.take(60)}; " +
        'check openai.collector.command')
    return 1
}
"""

VALUES = """
def name = { line -> line.substring(line.indexOf('.'), line.indexOf('=') + 1) }
def (known, unknown) = lines.split { name(it) in keys }
known.each { println it }
if (unknown) {
    def left = unknown.collect(name).unique().join(' ')
    System.err.println("left out, since this LogicModule does not declare it: ${left}; import " +
        'the LogicModules of the installed version of lm-openai')
}
return 0
"""

INSTANCES = """
// After exit status 0 without output LogicMonitor would remove all instances.
if (!lines) {
    System.err.println('no instance was found, so the known ones stay')
    return 1
}
lines.each { println it }
return 0
"""


def collect(definition: Definition) -> str:
    """Return the batch script of a DataSource."""
    keys = (f".{datapoint.camel}=" for datapoint in definition.datapoints)
    declared = _listing("keys", (*keys, f".{UNJUDGED}="))
    form = r"[A-Za-z0-9_-]+\.\w+=-?\d+(\.\d+)?"
    return "".join((*_head(definition, [], form), declared, START, VALUES))


def discover(definition: Definition) -> str:
    """Return the discovery script of a DataSource."""
    if is_fixed(definition):
        return _fixed(definition.title)
    form = "[A-Za-z0-9_-]+##.+##.*####.*"
    return "".join((*_head(definition, ["--discover"], form), START, INSTANCES))


def category() -> str:
    """Return the script of the PropertySource, which is silent on a resource without a key."""
    return (
        f"// Give a resource with an OpenAI admin key the category {CATEGORY}.\n"
        f"if (hostProps.get('{KEY}') || hostProps.get('{KEY_FILE}')) {{\n"
        f"    println 'system.categories={CATEGORY}'\n"
        "}\n"
        "return 0\n"
    )


def names(folder: str) -> Iterator[str]:
    """Yield the properties that a DataSource may read, without those that have an id."""
    known = [entry for entry in table().values() if not entry.pattern]
    yield from (entry.name for entry in known)
    yield from (f"{FAMILY}{folder}.{_rest(entry.name)}" for entry in known if entry.each)


def _head(definition: Definition, more: list[str], form: str) -> Iterator[str]:
    folder = definition.folder
    arguments = ["collect", folder, "--format", "logicmonitor", *more, "--properties", "-"]
    patterns = (entry.pattern.strip("^$") for entry in table().values() if entry.pattern)
    each = "|".join(_rest(entry.name) for entry in table().values() if entry.each)
    grace = HOST_SECONDS - COLLECTOR_SECONDS
    yield f"// {definition.title}: runs the collector lm-openai and checks what it prints.\n"
    yield "import groovy.json.JsonOutput\nimport java.util.concurrent.TimeUnit\n\n"
    yield f"def command = (hostProps.get('{COMMAND}') ?: '{row(COMMAND).default}').trim()\n"
    yield f"def arguments = [{', '.join(map(_quoted, arguments))}]\n"
    yield "def timeout = hostProps.get('openai.timeout')?.toString()\n"
    default = f"timeout?.isInteger() ? timeout.toInteger() : {COLLECTOR_SECONDS}"
    yield f"def seconds = ({default}) + {grace}\n"
    yield f"def form = /{form}/\n"
    yield _listing("names", names(folder))
    yield f"def patterns = [{', '.join(f'/{one}/' for one in patterns)}]\n"
    yield "// Properties of one DataSource; those of another one are not handed over.\n"
    yield f"def others = /openai\\.[a-z_]+\\.({each.replace('.', chr(92) + '.')})/\n"


def _fixed(title: str) -> str:
    """Return a discovery script that starts no process, so that No Data alerts need no success."""
    default = row(ORGANIZATION_NAME).default
    fields = f"{ORGANIZATION}##${{name}}##{ORGANIZATION}####auto.openai.organization=${{encoded}}"
    return (
        f"// {title}: the organization is the only instance.\n"
        f"def name = (hostProps.get('{ORGANIZATION_NAME}') ?: '{default}').trim()\n"
        "def encoded = URLEncoder.encode(name, 'UTF-8').replace('+', '%20')\n"
        "name = name.replaceAll(/#{2,}/, '#')\n"
        f'println "{fields}"\n'
        "return 0\n"
    )


def _listing(name: str, texts: Iterable[str]) -> str:
    rows = "".join(f"    {_quoted(text)},\n" for text in texts)
    return f"def {name} = [\n{rows}] as Set\n"


def _quoted(text: str) -> str:
    return f"'{text}'"


def _rest(name: str) -> str:
    return name.removeprefix(FAMILY)
