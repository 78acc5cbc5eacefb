import { useCallback, useRef, useSyncExternalStore } from 'react'
import type { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import type { HttpProvider } from '../../src/provider/index.js'
import { type Person, personOf, userOf } from './person.js'

const NOBODY: Person[] = []

/** The other people in a file, by name. */
export function usePeople(provider: HttpProvider | null): Person[] {
  const latest = useRef<{ text: string; people: Person[] }>({ text: '[]', people: NOBODY })
  const subscribe = useCallback(
    (listener: () => void) => {
      const awareness = provider?.awareness
      awareness?.on('change', listener)
      return () => awareness?.off('change', listener)
    },
    [provider]
  )
  return useSyncExternalStore(subscribe, () => {
    const people = provider === null ? NOBODY : others(provider.awareness)
    const text = JSON.stringify(people)
    if (text !== latest.current.text) latest.current = { text, people }
    return latest.current.people
  })
}

function others(awareness: Awareness): Person[] {
  const people = [...awareness.getStates()]
    .filter(([client]) => client !== awareness.clientID)
    .map(([, state]) => personOf(state))
    .filter((person) => person !== null)
  return people.sort((one, other) => (one.name < other.name ? -1 : 1))
}

/**
 * A view of an awareness in which other clients have only the fields that `personOf` accepts. A cursor in text that has
 * not arrived yet stays at its previous position.
 */
export function guarded(awareness: Awareness): Awareness {
  const cursors = new Map<number, unknown>()
  const getStates = () => {
    const states = [...awareness.getStates()].map(([client, state]): [number, Record<string, unknown>] => {
      const person = personOf(state)
      if (isKnown(awareness.doc, state.cursor)) cursors.set(client, state.cursor)
      const cursor = state.cursor == null ? null : cursors.get(client)
      return [client, { ...state, cursor, user: person === null ? undefined : userOf(person) }]
    })
    return new Map(states)
  }
  return Object.create(awareness, { getStates: { value: getStates } })
}

/** Whether the document contains the position of a cursor. */
function isKnown(doc: Y.Doc, cursor: unknown): boolean {
  try {
    const { anchor, head } = cursor as { anchor: unknown; head: unknown }
    const places = [anchor, head].map((end) => Y.createRelativePositionFromJSON(end))
    return places.every((place) => Y.createAbsolutePositionFromRelativePosition(place, doc) !== null)
  } catch {
    return false
  }
}
