import { useMemo } from 'react'
import type * as Y from 'yjs'

/** Shows a document that this page cannot edit: the names of its roots. */
export default function Roots({ doc }: { doc: Y.Doc }) {
  const names = useMemo(() => [...doc.share.keys()], [doc])
  return (
    <div className="empty">
      <p>This file holds neither a text nor rich text of Tiptap, but these roots:</p>
      <ul>
        {names.map((name) => (
          <li key={name}>
            <code>{name}</code>
          </li>
        ))}
      </ul>
    </div>
  )
}
