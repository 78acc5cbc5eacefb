import { useCallback, useEffect, useState } from 'react'
import type { HttpProvider } from '../provider/http-provider.js'

/** A client in a file, with its awareness state. */
export interface AwarenessClient<State> {
  clientId: number
  state: Partial<State>
}

/** The result of `useAwareness`. */
export interface SharedAwarenessState<State> {
  /** The other clients in the file. */
  others: AwarenessClient<State>[]
  /** The awareness state of this client; null if it has none. */
  local: Partial<State> | null
  /** Set one field of this client's state; the other fields are kept. */
  setField<Name extends keyof State & string>(name: Name, value: State[Name]): void
}

const NOBODY = { others: [], local: null }

/** The clients in the file of a provider, kept up to date. Null: there is no provider yet. */
// biome-ignore lint/suspicious/noExplicitAny: what clients say of themselves is for the application to know
export function useAwareness<State extends object = Record<string, any>>(
  provider: HttpProvider | null
): SharedAwarenessState<State> {
  const [known, setKnown] = useState<Omit<SharedAwarenessState<State>, 'setField'>>(NOBODY)
  useEffect(() => {
    if (provider === null) return setKnown(NOBODY)
    const { awareness } = provider
    const tell = () => {
      const clients = [...awareness.getStates()].filter(([clientId]) => clientId !== awareness.clientID)
      const others = clients.map(([clientId, state]) => ({ clientId, state: state as Partial<State> }))
      setKnown({ others, local: awareness.getLocalState() as Partial<State> | null })
    }
    awareness.on('change', tell)
    tell()
    return () => awareness.off('change', tell)
  }, [provider])
  const setField = useCallback(
    <Name extends keyof State & string>(name: Name, value: State[Name]) =>
      provider?.awareness.setLocalStateField(name, value),
    [provider]
  )
  return { ...known, setField }
}
