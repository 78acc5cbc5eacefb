import { useDeferredValue, useEffect, useState } from 'react'
import type * as Y from 'yjs'
import { TEXT_ROOT } from './kind.js'
import Markdown from './markdown.js'

/** The preview is updated at most this often. */
const PAUSE_MS = 200

/** A live preview of a Markdown file. */
export default function Preview({ doc }: { doc: Y.Doc }) {
  const text = useDeferredValue(useText(doc))
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it
    <section className="surface page" aria-label="Preview" tabIndex={0}>
      {text.trim() === '' ? <p className="soft">Nothing is written here yet.</p> : <Markdown text={text} />}
    </section>
  )
}

function useText(doc: Y.Doc): string {
  const [text, setText] = useState(() => doc.getText(TEXT_ROOT).toString())
  useEffect(() => {
    const root = doc.getText(TEXT_ROOT)
    let timer: ReturnType<typeof setTimeout> | undefined
    const changed = () => {
      timer ??= setTimeout(() => {
        timer = undefined
        setText(root.toString())
      }, PAUSE_MS)
    }
    setText(root.toString())
    root.observe(changed)
    return () => {
      clearTimeout(timer)
      root.unobserve(changed)
    }
  }, [doc])
  return text
}
