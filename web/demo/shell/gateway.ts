/** The gateway as the page, the sample agent and the sample's authors use it. */

import { GatewayClient, type Project } from '../../src/index.js'
import { noting, writeLastSeen } from '../away/last-seen.js'
import { Traffic } from '../cost/traffic.js'
import { currentPerson } from '../people/identity.js'
import { PROJECT_NAME } from './address.js'
import { askForToken } from './token.js'

const token = askForToken()
let cursor: string | null = null

export const traffic = new Traffic()

/** The page's own: what it asks is counted. */
export const client = new GatewayClient('', {
  token,
  headers: () => ({ 'X-Author': currentPerson().name.replaceAll(/[^\x20-\xff]/g, '?') }),
  fetch: noting(traffic.fetch, (seen) => {
    cursor = seen
    noteSeen()
  })
})

/** The project, as somebody else uses it. */
export function projectAs(author: string): Project {
  return new GatewayClient('', { token, author }).project(PROJECT_NAME)
}

/** Rooms are counted too. */
export function countSockets(): void {
  globalThis.WebSocket = traffic.WebSocket
}

/** The page was seen until now: it is called when it is hidden. */
export function noteSeen(): void {
  if (cursor !== null) writeLastSeen(PROJECT_NAME, cursor)
}
