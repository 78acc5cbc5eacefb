import { useCallback, useEffect, useRef, useState } from 'react'
import type { PollCallbacks } from '../polling/subscription.js'

/** What a component knows of a poll. */
export interface PollingState {
  /** Whether it is asked again and again; false once it has stopped, for whatever reason. */
  isPolling: boolean
  /** The last error, until something succeeds. */
  error: Error | null
  /** Ask now. */
  refetch(): Promise<void>
}

/** `TurnPoller`, `DocumentPoller`. */
interface Poller {
  refresh(): Promise<unknown>
  stop(): void
}

/** Begins to poll; it passes on what it is given. */
export type StartPoller = (callbacks: Omit<PollCallbacks<never>, 'onResult'>) => Poller

const STILL = { isPolling: false, error: null }

/** Runs a poller while the component is there. `start` is memoized; null: hold still. */
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

/** The newest of a value that comes anew with each render, for callbacks that outlive it. */
export function useLatest<T>(value: T): { readonly current: T } {
  const latest = useRef(value)
  useEffect(() => {
    latest.current = value
  })
  return latest
}
