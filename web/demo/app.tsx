import { useState } from 'react'
import { GatewayClient } from '../src/index.js'
import type { ProviderTransport } from '../src/provider/index.js'
import { GatewayProvider } from '../src/react/index.js'
import { Chat } from './chat.js'
import { Editor } from './editor.js'
import { FileTree } from './file-tree.js'
import { askForToken } from './token.js'
import { Traffic } from './traffic.js'
import { TrafficPanel } from './traffic-panel.js'

const TRANSPORTS: Record<ProviderTransport, string> = {
  auto: 'Automatic',
  sse: 'Server-sent events',
  'long-poll': 'Long polling',
  poll: 'Polling',
  websocket: 'WebSocket'
}

const traffic = new Traffic()
const client = new GatewayClient('', { fetch: traffic.fetch, token: askForToken() })
/** Which project: `/?project=name`, so that two pages can be given the same one. */
const project = new URLSearchParams(location.search).get('project') ?? 'demo'

export function App() {
  const [transport, setTransport] = useState<ProviderTransport>('auto')
  const [path, setPath] = useState<string | null>(null)
  return (
    <GatewayProvider client={client} project={project} transport={transport === 'websocket' ? 'auto' : transport}>
      <header>
        <h1>yjs-gateway</h1>
        <form method="get">
          <label>
            Project <input name="project" defaultValue={project} pattern="[A-Za-z0-9._~\-]+" required />
          </label>
        </form>
        <label>
          Transport{' '}
          <select value={transport} onChange={(event) => setTransport(event.target.value as ProviderTransport)}>
            {Object.entries(TRANSPORTS).map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </header>
      <main>
        <FileTree open={path} onOpen={setPath} />
        {path === null ? (
          <section className="editor empty">
            <p>Open a file, or make a new one.</p>
          </section>
        ) : (
          <Editor key={path} path={path} transport={transport} onClose={() => setPath(null)} />
        )}
        <Chat />
        <TrafficPanel traffic={traffic} />
      </main>
    </GatewayProvider>
  )
}
