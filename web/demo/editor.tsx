import { markdown } from '@codemirror/lang-markdown'
import { syntaxHighlighting } from '@codemirror/language'
import { keymap } from '@codemirror/view'
import { classHighlighter } from '@lezer/highlight'
import { basicSetup, EditorView } from 'codemirror'
import { useEffect, useRef, useState } from 'react'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import type { HttpProvider, ProviderTransport } from '../src/provider/index.js'
import { useDocument, useFiles } from '../src/react/index.js'
import { History } from './history.js'

const COLORS = ['#2f81b7', '#8250df', '#bf3989', '#1a7f37', '#9a6700', '#cf222e']

const CLOSED = {
  deleted: 'This file was deleted.',
  'incarnation-changed': 'This file was deleted, and another one is under its path.',
  reset: 'The gateway was set back to an earlier state.',
  refused: 'The gateway does not take this.'
}

/** By which the page's policy knows the style sheets that the editor makes. */
const NONCE = document.querySelector<HTMLElement>('meta[property=csp-nonce]')?.nonce ?? ''

interface EditorProps {
  path: string
  transport: ProviderTransport
  onClose(): void
}

/** A file to type in. */
export function Editor({ path, transport, onClose }: EditorProps) {
  const { provider, synced, status, unsaved, closed, reopen } = useDocument(path, { transport })
  const { remove } = useFiles()
  const [isPast, showPast] = useState(false)
  return (
    <section className="editor" aria-label={path}>
      <div className="bar">
        <h2>{path}</h2>
        <output className={`status ${status ?? ''}`}>{saying(closed !== null, synced, status, unsaved)}</output>
        <button type="button" aria-pressed={isPast} onClick={() => showPast(!isPast)}>
          History
        </button>
        <button
          type="button"
          onClick={() => confirm(`Delete ${path}?`) && void remove(path).then(onClose, () => undefined)}
        >
          Delete
        </button>
      </div>
      {closed !== null && (
        <p role="alert" className="closed">
          {CLOSED[closed.reason]}{' '}
          <button type="button" onClick={reopen}>
            Open anew
          </button>{' '}
          <button type="button" onClick={onClose}>
            Close
          </button>
        </p>
      )}
      {isPast && <History path={path} />}
      <div className="typing" hidden={isPast}>
        {provider !== null && closed === null && <TextEditor provider={provider} />}
      </div>
    </section>
  )
}

function saying(closed: boolean, synced: boolean, status: string | null, unsaved: boolean): string {
  if (closed) return 'closed'
  if (!synced) return status === 'disconnected' ? 'offline' : 'connecting'
  return unsaved ? 'saving' : 'saved'
}

/** What the others see beside the cursor of who has no name here. */
function guest(client: number) {
  const color = COLORS[client % COLORS.length]
  return { name: `Guest ${client % 1000}`, color, colorLight: `${color}33` }
}

/** CodeMirror on the text of a document. */
function TextEditor({ provider }: { provider: HttpProvider }) {
  const place = useRef<HTMLDivElement>(null)
  useEffect(() => {
    if (place.current === null) return
    const text = provider.doc.getText('content')
    provider.awareness.setLocalStateField('user', guest(provider.doc.clientID))
    const extensions = [
      basicSetup,
      keymap.of(yUndoManagerKeymap),
      markdown(),
      syntaxHighlighting(classHighlighter), // its colours are in style.css, light and dark
      EditorView.cspNonce.of(NONCE),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ 'aria-label': 'Text of the file' }),
      yCollab(text, provider.awareness)
    ]
    const view = new EditorView({ doc: text.toString(), extensions, parent: place.current })
    return () => view.destroy()
  }, [provider])
  return <div ref={place} className="codemirror" />
}
