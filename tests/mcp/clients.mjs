// The official TypeScript clients in a project that does not exist yet: node clients.mjs CONNECTION.
// CONNECTION is JSON: {"url"} for HTTP, by the client of the revision 2026-07-28, which listens, or {"command", "args"}
// for stdin and stdout, by the client of the revisions before, which subscribes. Reads tool calls from stdin, one
// line of JSON each, and prints the results and the notifications that it hears as lines of JSON.
import { createInterface } from 'node:readline'

const connection = JSON.parse(process.argv[2])
const tell = (said) => console.log(JSON.stringify(said))
const info = { name: 'stock-client', version: '1.0' }
const uri = connection.uri

async function overHttp() {
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client')
  const client = new Client(info, { versionNegotiation: { mode: 'auto' } })
  client.setNotificationHandler('notifications/resources/list_changed', () => tell({ heard: 'list' }))
  client.setNotificationHandler('notifications/resources/updated', (told) => tell({ heard: told.params.uri }))
  await client.connect(new StreamableHTTPClientTransport(new URL(connection.url)))
  await client.listen({ resourcesListChanged: true, resourceSubscriptions: [uri] })
  return client
}

async function overStdio() {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js')
  const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js')
  const types = await import('@modelcontextprotocol/sdk/types.js')
  const client = new Client(info)
  client.setNotificationHandler(types.ResourceListChangedNotificationSchema, () => tell({ heard: 'list' }))
  client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, (told) => tell({ heard: told.params.uri }))
  await client.connect(new StdioClientTransport({ command: connection.command, args: connection.args }))
  await client.subscribeResource({ uri })
  return client
}

const client = await (connection.url ? overHttp() : overStdio())
tell({ tools: (await client.listTools()).tools.map((tool) => tool.name) })
for await (const line of createInterface({ input: process.stdin })) {
  const result = await client.callTool(JSON.parse(line))
  tell({ failed: result.isError ?? false, text: result.content[0].text })
}
await client.close()
