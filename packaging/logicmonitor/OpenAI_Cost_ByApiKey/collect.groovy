// OpenAI Cost By API Key: runs the collector lm-openai and checks what it prints.
import groovy.json.JsonOutput
import java.util.concurrent.TimeUnit

def command = (hostProps.get('openai.collector.command') ?: '/usr/bin/lm-openai').trim()
def arguments = ['collect', 'cost_by_api_key', '--format', 'logicmonitor', '--properties', '-']
def timeout = hostProps.get('openai.timeout')?.toString()
def seconds = (timeout?.isInteger() ? timeout.toInteger() : 50) + 10
def form = /[A-Za-z0-9_-]+\.\w+=-?\d+(\.\d+)?/
def names = [
    'openai.admin.key',
    'openai.admin.key.file',
    'openai.admin.key.file.shared',
    'openai.org.name',
    'openai.api.url',
    'openai.api.url.insecure',
    'openai.proxy.url',
    'openai.proxy.pass',
    'openai.ca.file',
    'openai.projects.include',
    'openai.projects.exclude',
    'openai.models.include',
    'openai.models.exclude',
    'openai.window',
    'openai.group.by',
    'openai.finalization.grace',
    'openai.lookback',
    'openai.bucket.width',
    'openai.headroom.lookback',
    'openai.limits.unused',
    'openai.budget.monthly',
    'openai.cost.floor',
    'openai.balance.amount',
    'openai.balance.date',
    'openai.models.approved',
    'openai.top',
    'openai.users.email',
    'openai.audit.overlap',
    'openai.cache.dir',
    'openai.cache.ttl',
    'openai.cache.url',
    'openai.cache.pass',
    'openai.collector.command',
    'openai.timeout',
    'openai.concurrency',
    'openai.cost_by_api_key.projects.include',
    'openai.cost_by_api_key.projects.exclude',
    'openai.cost_by_api_key.models.include',
    'openai.cost_by_api_key.models.exclude',
    'openai.cost_by_api_key.window',
    'openai.cost_by_api_key.group.by',
    'openai.cost_by_api_key.finalization.grace',
    'openai.cost_by_api_key.lookback',
    'openai.cost_by_api_key.bucket.width',
    'openai.cost_by_api_key.headroom.lookback',
    'openai.cost_by_api_key.limits.unused',
    'openai.cost_by_api_key.top',
] as Set
def patterns = [/openai\.budget\.project\.[A-Za-z0-9_-]+/, /openai\.tokens\.budget\.project\.[A-Za-z0-9_-]+/]
// Properties of one DataSource; those of another one are not handed over.
def others = /openai\.[a-z_]+\.(projects\.include|projects\.exclude|models\.include|models\.exclude|window|group\.by|finalization\.grace|lookback|bucket\.width|headroom\.lookback|limits\.unused|top)/
def keys = [
    '.amount=',
    '.amountYesterday=',
    '.amount7dAverage=',
    '.amountChangePercent=',
    '.amountMonthToDate=',
    '.amountLastMonth=',
    '.amountMonthForecast=',
    '.amountMonthForecastLow=',
    '.amountMonthForecastHigh=',
    '.sharePercent=',
    '.unjudged=',
] as Set

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

def name = { line -> line.substring(line.indexOf('.'), line.indexOf('=') + 1) }
def (known, unknown) = lines.split { name(it) in keys }
known.each { println it }
if (unknown) {
    def left = unknown.collect(name).unique().join(' ')
    System.err.println("left out, since this LogicModule does not declare it: ${left}; import " +
        'the LogicModules of the installed version of lm-openai')
}
return 0
