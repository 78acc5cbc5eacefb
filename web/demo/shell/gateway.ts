/** The gateway client of the page, and the projects as used by the sample agent and the sample's authors. */

import { GatewayClient, type Project } from '../../src/index.js'
import { noting, writeLastSeen } from '../away/last-seen.js'
import { Traffic } from '../cost/traffic.js'
import { currentPerson } from '../people/identity.js'
import { PROJECT_NAME } from './address.js'
import { askForToken } from './token.js'

const token = askForToken()
let cursor: string | null = null

export const traffic = new Traffic()

/** The client of the page, whose requests are counted. */
export const client = new GatewayClient('', {
  token,
  headers: () => ({ 'X-Author': currentPerson().name.replaceAll(/[^\x20-\xff]/g, '?') }),
  fetch: noting(traffic.fetch, (seen) => {
    cursor = seen
    noteSeen()
  })
})

/** The project as used by another author. */
export function projectAs(author: string): Project {
  return new GatewayClient('', { token, author }).project(PROJECT_NAME)
}

/** Count the WebSocket traffic of rooms, too. */
export function countSockets(): void {
  globalThis.WebSocket = traffic.WebSocket
}

/** Record that the page was seen until now; called when the page is hidden. */
export function noteSeen(): void {
  if (cursor !== null) writeLastSeen(PROJECT_NAME, cursor)
}
