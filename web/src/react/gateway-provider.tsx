import { QueryClient, QueryClientContext, QueryClientProvider } from '@tanstack/react-query'
import { createContext, type ReactNode, useContext, useMemo, useRef, useState } from 'react'
import { GatewayClient } from '../client.js'
import { type PollingManager, pollingManager } from '../polling/manager.js'
import type { PollTransport } from '../polling/project-feed.js'
import type { Project } from '../project.js'
import type { ProviderTransport } from '../provider/http-provider.js'
import type { Token } from '../token.js'
import { DocumentStore } from './document-store.js'

/** The context of the hooks. */
export interface Gateway {
  client: GatewayClient
  project: Project
  manager: PollingManager
  /** How the hooks learn of changes. */
  transport: PollTransport
  /** How documents are synchronized with their files. */
  documentTransport: ProviderTransport
  documents: DocumentStore
}

/** The props of `GatewayProvider`. */
export interface GatewayProviderProps {
  /** The base URL of the gateway. Default: the origin of the page. */
  url?: string
  /** The id of the project. */
  project: string
  /** Sent as `Authorization: Bearer`: a token, or a function that returns one; the latest function is called. */
  token?: Token
  /** A client, in place of `url` and `token`; must be the same object in each render. */
  client?: GatewayClient
  manager?: PollingManager
  /** How to learn of changes. Default: one event stream for the project. `websocket`: documents use rooms. */
  transport?: ProviderTransport
  /** Default: the client of the enclosing `<QueryClientProvider>`, or a new one. */
  queryClient?: QueryClient
  children?: ReactNode
}

/** Represents every token function, so that a new function in each render does not create a new client. */
const ASKED = Symbol('a token that is asked for')

async function ask(token: Token | undefined): Promise<string> {
  return typeof token === 'function' ? token() : (token ?? '')
}

const GatewayContext = createContext<Gateway | null>(null)

/** Provides the gateway, the project and the credentials to the hooks. */
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

/** The context of the hooks, for custom hooks. */
export function useGateway(): Gateway {
  const gateway = useContext(GatewayContext)
  if (gateway === null) throw new Error('there is no <GatewayProvider> around this component')
  return gateway
}

/** A project of the gateway. Default: the project of `<GatewayProvider>`. */
export function useProject(name: string | undefined): Project {
  const { client, project } = useGateway()
  return useMemo(
    () => (name === undefined || name === project.name ? project : client.project(name)),
    [client, project, name]
  )
}
