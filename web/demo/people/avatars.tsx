import type { CSSProperties } from 'react'
import { initialsOf, type Person } from './person.js'

const SHOWN = 4

/** The other clients in a file. */
export function Avatars({ people }: { people: Person[] }) {
  if (people.length === 0) return null
  return (
    <ul className="avatars" aria-label="Also here">
      {people.slice(0, SHOWN).map((person, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: two windows of one person are the same
        <li key={`${person.name} ${index}`} title={person.name}>
          <Avatar person={person} />
        </li>
      ))}
      {people.length > SHOWN && <li className="more">+{people.length - SHOWN}</li>}
    </ul>
  )
}

export function Avatar({ person }: { person: Person }) {
  return (
    <span className="avatar" style={{ '--color': person.color } as CSSProperties}>
      <span aria-hidden="true">{initialsOf(person.name)}</span>
      <span className="hidden">{person.name}</span>
    </span>
  )
}
