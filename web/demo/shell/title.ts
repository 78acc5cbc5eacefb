import { useEffect } from 'react'
import { PROJECT_NAME } from './address.js'
import { nameOf } from './format.js'

/** The title of the window names the open file. */
export function useTitle(path: string | null): void {
  useEffect(() => {
    document.title = path === null ? `${PROJECT_NAME} – yjs-gateway` : `${nameOf(path)} – ${PROJECT_NAME} – yjs-gateway`
  }, [path])
}
