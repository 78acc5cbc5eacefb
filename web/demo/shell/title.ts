import { useEffect } from 'react'
import { PROJECT_NAME } from './address.js'
import { nameOf } from './format.js'

/** Show the name of the open file in the title of the window. */
export function useTitle(path: string | null): void {
  useEffect(() => {
    document.title = path === null ? `${PROJECT_NAME} – yjs-gateway` : `${nameOf(path)} – ${PROJECT_NAME} – yjs-gateway`
  }, [path])
}
