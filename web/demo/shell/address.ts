/** The state of the page in its URL: `/?project=demo#notes/plan.md`. */
import { useCallback, useSyncExternalStore } from 'react'

/** The default project. */
export const FIRST_PROJECT = 'demo'

export const PROJECT_NAME = new URLSearchParams(location.search).get('project') || FIRST_PROJECT

/** The path of the file in the URL; null if there is none. */
function pathInAddress(): string | null {
  try {
    return decodeURIComponent(location.hash.slice(1)) || null
  } catch {
    return null
  }
}

/** The URL of a file, or of the project. */
export function addressOf(path: string | null): string {
  const fragment = path === null ? '' : `#${path.split('/').map(encodeURIComponent).join('/')}`
  return `${location.pathname}?project=${encodeURIComponent(PROJECT_NAME)}${fragment}`
}

/** The open file, and a function that opens another file and adds an entry to the browser history. */
export function useOpenFile(): [string | null, (path: string | null) => void] {
  const path = useSyncExternalStore(subscribe, pathInAddress)
  const open = useCallback((path: string | null) => {
    if (path === pathInAddress()) return
    history.pushState(null, '', addressOf(path))
    dispatchEvent(new PopStateEvent('popstate'))
  }, [])
  return [path, open]
}

function subscribe(listener: () => void): () => void {
  addEventListener('popstate', listener)
  addEventListener('hashchange', listener)
  return () => {
    removeEventListener('popstate', listener)
    removeEventListener('hashchange', listener)
  }
}
