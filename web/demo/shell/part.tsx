/** Parts of the page that are loaded on demand. */
import { Component, type ComponentType, lazy, type ReactNode } from 'react'

const ATTEMPTS = 5
const PAUSE_MS = 1_500

/** A component that is loaded when it is first rendered; while the page is offline, loading waits for the network. */
export function part<Props>(load: () => Promise<{ default: ComponentType<Props> }>) {
  return lazy(() => persistently(load))
}

/** Load code, retrying while the page is offline, and a few times otherwise. */
export async function persistently<T>(load: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await load()
    } catch (error) {
      if (navigator.onLine && attempt >= ATTEMPTS) throw error
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    }
  }
}

/** Shown in place of a part that failed; the rest of the page keeps working. */
export class Boundary extends Component<{ children: ReactNode }, { error: unknown }> {
  override state = { error: null }

  static getDerivedStateFromError(error: unknown) {
    return { error }
  }

  override render() {
    if (this.state.error === null) return this.props.children
    return (
      <div role="alert" className="empty">
        <p>This part of the page failed. What was written is stored.</p>
        <button type="button" onClick={() => location.reload()}>
          Load the page again
        </button>
      </div>
    )
  }
}
