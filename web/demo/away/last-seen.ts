/** How far this browser has seen a project: a cursor, kept from visit to visit. */

export interface LastSeen {
  cursor: string
  /** Milliseconds since 1970. */
  at: number
}

const KEY = 'yjs-gateway seen'

export function readLastSeen(project: string): LastSeen | null {
  try {
    const { cursor, at } = JSON.parse(localStorage.getItem(`${KEY} ${project}`) ?? 'null') ?? {}
    return typeof cursor === 'string' && typeof at === 'number' ? { cursor, at } : null
  } catch {
    return null
  }
}

export function writeLastSeen(project: string, cursor: string): void {
  localStorage.setItem(`${KEY} ${project}`, JSON.stringify({ cursor, at: Date.now() }))
}

/**
 * `fetch` that notes how far the page has followed the feed. The tag of the feed is its cursor, so that no request is
 * made for this.
 */
export function noting(fetch: typeof globalThis.fetch, seen: (cursor: string) => void): typeof globalThis.fetch {
  return async (input, init) => {
    const answer = await fetch(input, init)
    const { pathname } = new URL(String(input), location.href)
    const cursor = /^\/api\/projects\/[^/]+\/changes$/.test(pathname) ? answer.headers.get('etag') : null
    if (answer.ok || answer.status === 304) if (cursor !== null) seen(cursor.replace(/^W\/|"/g, ''))
    return answer
  }
}
