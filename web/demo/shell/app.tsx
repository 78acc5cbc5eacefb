import { useState } from 'react'
import type { ProviderTransport } from '../../src/provider/index.js'
import { GatewayProvider } from '../../src/react/index.js'
import { AGENT_NAME } from '../agent/agent-name.js'
import { Chat } from '../agent/chat.js'
import { AwayCard } from '../away/away-card.js'
import { CostPanel } from '../cost/cost-panel.js'
import { DocumentPane } from '../document/document-pane.js'
import { FilePane } from '../files/file-pane.js'
import { ProjectFilesProvider } from '../files/project-files.js'
import { useSample } from '../sample/use-sample.js'
import { PROJECT_NAME, useOpenFile } from './address.js'
import { Failure } from './failure.js'
import { client, projectAs, traffic } from './gateway.js'
import { Header } from './header.js'
import { Icon, type IconName } from './icon.js'
import { Boundary } from './part.js'
import { useTitle } from './title.js'

export function App() {
  const [transport, setTransport] = useState<ProviderTransport>('auto')
  return (
    <GatewayProvider client={client} project={PROJECT_NAME} transport={transport === 'websocket' ? 'auto' : transport}>
      <ProjectFilesProvider>
        <Page transport={transport} onTransport={setTransport} />
      </ProjectFilesProvider>
    </GatewayProvider>
  )
}

type PaneName = 'files' | 'document' | 'chat' | 'cost'

const PANES: [PaneName, string, IconName][] = [
  ['files', 'Files', 'folder'],
  ['document', 'Document', 'document'],
  ['chat', 'Agent', 'spark'],
  ['cost', 'Cost', 'cost']
]

const agentProject = projectAs(AGENT_NAME)

interface PageProps {
  transport: ProviderTransport
  onTransport(transport: ProviderTransport): void
}

function Page({ transport, onTransport }: PageProps) {
  const [path, openPath] = useOpenFile()
  const [pane, showPane] = useState<PaneName>(path === null ? 'files' : 'document')
  const open = (path: string | null) => {
    openPath(path)
    showPane(path === null ? 'files' : 'document')
  }
  const sample = useSample(projectAs, open)
  useTitle(path)
  return (
    <>
      <Header path={path} transport={transport} onTransport={onTransport} onOpen={open} />
      <Boundary>
        <AwayCard onOpen={open} />
      </Boundary>
      <Failure error={sample.error} />
      {/* On a narrow screen one pane is shown at a time. */}
      <main data-pane={pane}>
        <FilePane open={path} onOpen={open} onFill={sample.fill} isFilling={sample.isFilling} />
        {path === null ? (
          <section className="pane document empty" aria-label="No file is open">
            <Icon name="document" />
            <p>Select or create a file.</p>
            <p className="soft">
              <kbd>Ctrl P</kbd> finds one by its name or its text.
            </p>
          </section>
        ) : (
          <Boundary key={path}>
            <DocumentPane path={path} transport={transport} onOpen={open} />
          </Boundary>
        )}
        <Boundary>
          <Chat path={path} agentProject={agentProject} />
        </Boundary>
        <CostPanel traffic={traffic} path={path} transport={transport} />
      </main>
      <nav className="panes" aria-label="Panes">
        {PANES.map(([name, label, icon]) => (
          <button key={name} type="button" aria-pressed={pane === name} onClick={() => showPane(name)}>
            <Icon name={icon} />
            {label}
          </button>
        ))}
      </nav>
    </>
  )
}
