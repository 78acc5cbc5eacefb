import { QueryClient, QueryClientContext, QueryClientProvider } from '@tanstack/react-query'
import { createContext, type ReactNode, useContext, useMemo, useRef, useState } from 'react'
import { GatewayClient } from '../client.js'
import { type PollingManager, pollingManager } from '../polling/manager.js'
import type { PollTransport } from '../polling/project-feed.js'
import type { Project } from '../project.js'
import type { ProviderTransport } from '../provider/http-provider.js'
import type { Token } from '../token.js'
import { DocumentStore } from './document-store.js'

/** What the hooks work with. */
export interface Gateway {
  client: GatewayClient
  project: Project
  manager: PollingManager
  /** How one hears of changes. */
  transport: PollTransport
  /** How documents are kept the same as their files. */
  documentTransport: ProviderTransport
  documents: DocumentStore
}

export interface GatewayProviderProps {
  /** Where the gateway is; left out: where the page is from. */
  url?: string
  /** The name of the project. */
  project: string
  /** Sent as `Authorization: Bearer`; or a function that gives one, the newest of which is asked. */
  token?: Token
  /** Instead of `url` and `token`: a client, the same one in each render. */
  client?: GatewayClient
  manager?: PollingManager
  /** How one hears of changes: by one event stream for the project unless said. `websocket`: documents by rooms. */
  transport?: ProviderTransport
  /** Left out: that of a `<QueryClientProvider>` around it, or one of its own. */
  queryClient?: QueryClient
  children?: ReactNode
}

/** Stands for every function: another one in each render makes no other client. */
const ASKED = Symbol('a token that is asked for')

async function ask(token: Token | undefined): Promise<string> {
  return typeof token === 'function' ? token() : (token ?? '')
}

const GatewayContext = createContext<Gateway | null>(null)

/** Carries the gateway, the project and the credentials to the hooks. */
export function GatewayProvider({ children, queryClient, ...props }: GatewayProviderProps) {
  const { url = '', project: name, token, client: given, manager = pollingManager, transport = 'auto' } = props
  const newest = useRef(token)
  newest.current = token
  const fixed = typeof token === 'function' ? ASKED : token
  const gateway = useMemo(() => {
    const source = fixed === ASKED ? () => ask(newest.current) : fixed
    const client = given ?? new GatewayClient(url, source === undefined ? {} : { token: source })
    const project = client.project(name)
    const documents = new DocumentStore(project, manager)
    const heard = transport === 'websocket' ? 'auto' : transport
    return { client, project, manager, transport: heard, documentTransport: transport, documents }
  }, [given, url, fixed, name, manager, transport])
  const outer = useContext(QueryClientContext)
  const [own] = useState(() => queryClient ?? outer ?? new QueryClient())
  return (
    <QueryClientProvider client={queryClient ?? outer ?? own}>
      <GatewayContext.Provider value={gateway}>{children}</GatewayContext.Provider>
    </QueryClientProvider>
  )
}

/** What the hooks work with, for hooks of your own. */
export function useGateway(): Gateway {
  const gateway = useContext(GatewayContext)
  if (gateway === null) throw new Error('there is no <GatewayProvider> around this component')
  return gateway
}

/** Another project of the same gateway; left out: the one of `<GatewayProvider>`. */
export function useProject(name: string | undefined): Project {
  const { client, project } = useGateway()
  return useMemo(
    () => (name === undefined || name === project.name ? project : client.project(name)),
    [client, project, name]
  )
}
