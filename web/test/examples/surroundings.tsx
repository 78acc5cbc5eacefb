/** What the examples import from the surrounding application. */
import type { Block } from '../../src/index.js'

export let sessionId = ''
export let projectId = ''

export function surround(session: string, project: string): void {
  sessionId = session
  projectId = project
}

export function BlockDisplay({ block }: { block: Block }) {
  return <p>{String(block.content)}</p>
}

export function LoadingIndicator() {
  return <progress />
}

export function FileTree({ documents }: { documents: Document[] }) {
  return <ul>{documents.length}</ul>
}
