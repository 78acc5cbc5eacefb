'use client'

import type * as Y from 'yjs'
import { HttpProvider } from 'yjs-gateway/provider'

/** Connect a document to a file of the gateway. The provider fetches a new token before the current one expires. */
export function connect(gateway: string, project: string, path: string, doc: Y.Doc, tokens = '/api/token') {
  return new HttpProvider({ url: gateway, project, path, doc, token: () => fetchToken(tokens) })
}

async function fetchToken(url: string): Promise<string> {
  const answer = await fetch(url, { cache: 'no-store' })
  if (!answer.ok) throw new Error(`no token: ${answer.status} ${await answer.text()}`)
  return answer.text()
}
