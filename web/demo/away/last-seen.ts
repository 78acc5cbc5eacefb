/** The cursor up to which this browser has seen a project, kept between visits. */

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
 * A `fetch` that records the cursor of the feed. The entity tag of the feed is its cursor, so this takes no request.
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
