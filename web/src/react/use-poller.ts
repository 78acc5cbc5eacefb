import { useCallback, useEffect, useRef, useState } from 'react'
import type { PollCallbacks } from '../polling/subscription.js'

/** The state of a poll in a component. */
export interface PollingState {
  /** Whether the poll is running; false once it has stopped, for any reason. */
  isPolling: boolean
  /** The last error; null again after the next success. */
  error: Error | null
  /** Poll immediately. */
  refetch(): Promise<void>
}

/** `TurnPoller`, `DocumentPoller`. */
interface Poller {
  refresh(): Promise<unknown>
  stop(): void
}

/** Starts a poller with these callbacks. */
export type StartPoller = (callbacks: Omit<PollCallbacks<never>, 'onResult'>) => Poller

const STILL = { isPolling: false, error: null }

/** Run a poller while the component is mounted. `start` must be memoized; null: do not poll. */
export function usePoller(start: StartPoller | null, onError: ((error: Error) => void) | undefined): PollingState {
  const [state, setState] = useState<{ isPolling: boolean; error: Error | null }>(STILL)
  const poller = useRef<Poller | null>(null)
  const tellError = useLatest(onError)
  useEffect(() => {
    if (start === null) return
    const change = (part: Partial<typeof state>) => setState((before) => ({ ...before, ...part }))
    change({ isPolling: true, error: null })
    const started = start({
      onError: (error) => {
        change({ error })
        tellError.current?.(error)
      },
      onRecover: () => change({ error: null }),
      onStop: () => change({ isPolling: false }),
      onRestart: () => change({ isPolling: true })
    })
    poller.current = started
    return () => {
      poller.current = null
      started.stop()
      setState(STILL)
    }
  }, [start, tellError])
  const refetch = useCallback(async () => {
    await poller.current?.refresh()
  }, [])
  return { ...state, refetch }
}

/** The latest value of a prop or function, for callbacks that outlive a render. */
export function useLatest<T>(value: T): { readonly current: T } {
  const latest = useRef(value)
  useEffect(() => {
    latest.current = value
  })
  return latest
}
