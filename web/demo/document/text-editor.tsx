import { markdown } from '@codemirror/lang-markdown'
import { syntaxHighlighting } from '@codemirror/language'
import { keymap } from '@codemirror/view'
import { classHighlighter } from '@lezer/highlight'
import { basicSetup, EditorView } from 'codemirror'
import { useEffect, useRef } from 'react'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import type { HttpProvider } from '../../src/provider/index.js'
import { guarded } from '../people/use-people.js'
import { TEXT_ROOT } from './kind.js'
import { NONCE } from './nonce.js'

/** In a text shorter than this, the caret starts at the end. */
const NEW_LENGTH = 100

/** CodeMirror on the text of a document, with the carets of other clients. */
export default function TextEditor({ provider }: { provider: HttpProvider }) {
  const place = useRef<HTMLDivElement>(null)
  useEffect(() => {
    if (place.current === null) return
    const text = provider.doc.getText(TEXT_ROOT)
    const extensions = [
      basicSetup,
      keymap.of(yUndoManagerKeymap),
      markdown(),
      syntaxHighlighting(classHighlighter), // the colours are in the style sheet, for light and dark
      EditorView.cspNonce.of(NONCE),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ 'aria-label': 'Text of the file' }),
      yCollab(text, guarded(provider.awareness))
    ]
    const anchor = text.length <= NEW_LENGTH ? text.length : 0
    const view = new EditorView({ doc: text.toString(), selection: { anchor }, extensions, parent: place.current })
    view.focus()
    return () => view.destroy()
  }, [provider])
  return <div ref={place} className="codemirror" />
}
