// OpenAI Collection Health: the organization is the only instance.
def name = (hostProps.get('openai.org.name') ?: 'default').trim()
def encoded = URLEncoder.encode(name, 'UTF-8').replace('+', '%20')
name = name.replaceAll(/#{2,}/, '#')
println "organization##${name}##organization####auto.openai.organization=${encoded}"
return 0
