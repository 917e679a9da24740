// Give a resource with an OpenAI admin key the category OpenAI.
if (hostProps.get('openai.admin.key') || hostProps.get('openai.admin.key.file')) {
    println 'system.categories=OpenAI'
}
return 0
