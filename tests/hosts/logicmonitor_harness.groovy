// Evaluates LogicModule scripts as a Collector does, with stand-ins for what it offers them.
// Arguments: a file with a JSON list of tasks {script, properties}, and the file for the results
// {status, stdout, stderr} in the same order.
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.util.concurrent.Callable
import java.util.concurrent.Executors

/** Properties of a resource: names are found whatever their case. */
class HostProps {
    private final Map properties

    HostProps(Map properties) { this.properties = properties }

    String get(String name) {
        properties.find { it.key.equalsIgnoreCase(name) }?.value
    }

    Properties toProperties() {
        def found = new Properties()
        found.putAll(properties)
        found
    }
}

/** Standard error of the task that runs in a thread. */
class Errors extends OutputStream {
    static final ThreadLocal<ByteArrayOutputStream> OWN = new ThreadLocal<>()

    void write(int letter) { OWN.get()?.write(letter) }
}

def tasks = new JsonSlurper().parse(new File(args[0]), 'UTF-8')
System.setErr(new PrintStream(new Errors(), true, 'UTF-8'))
def pool = Executors.newFixedThreadPool(3)
def results = pool.invokeAll(tasks.collect { task ->
    return {
        Errors.OWN.set(new ByteArrayOutputStream())
        def out = new StringWriter()
        def binding = new Binding(hostProps: new HostProps(task.properties), out: new PrintWriter(out))
        def status = new GroovyShell(binding).evaluate(new File(task.script))
        [status: status, stdout: out.toString(), stderr: Errors.OWN.get().toString('UTF-8')]
    } as Callable
})*.get()
pool.shutdown()
new File(args[1]).setText(JsonOutput.toJson(results), 'UTF-8')
