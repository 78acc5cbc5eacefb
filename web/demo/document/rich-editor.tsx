import { Editor } from '@tiptap/core'
import { Blockquote } from '@tiptap/extension-blockquote'
import { Bold } from '@tiptap/extension-bold'
import { Code } from '@tiptap/extension-code'
import { CodeBlock } from '@tiptap/extension-code-block'
import { Collaboration } from '@tiptap/extension-collaboration'
import { CollaborationCaret } from '@tiptap/extension-collaboration-caret'
import { Document } from '@tiptap/extension-document'
import { HardBreak } from '@tiptap/extension-hard-break'
import { Heading } from '@tiptap/extension-heading'
import { HorizontalRule } from '@tiptap/extension-horizontal-rule'
import { Italic } from '@tiptap/extension-italic'
import { BulletList, ListItem, ListKeymap, OrderedList } from '@tiptap/extension-list'
import { Paragraph } from '@tiptap/extension-paragraph'
import { Strike } from '@tiptap/extension-strike'
import { Text } from '@tiptap/extension-text'
import { useEffect, useReducer, useRef, useState } from 'react'
import type { HttpProvider } from '../../src/provider/index.js'
import { currentPerson } from '../people/identity.js'
import { personOf, userOf } from '../people/person.js'
import { guarded } from '../people/use-people.js'
import { RICH_ROOT } from './kind.js'
import { NONCE } from './nonce.js'

/** Tiptap on the rich text of a document, with the carets of other clients. */
export default function RichEditor({ provider }: { provider: HttpProvider }) {
  const place = useRef<HTMLDivElement>(null)
  const [editor, setEditor] = useState<Editor | null>(null)
  useEffect(() => {
    if (place.current === null) return
    const editor = new Editor({
      element: place.current,
      injectNonce: NONCE,
      extensions: [...FORMATS, ...collaboration(provider)],
      editorProps: { attributes: { 'aria-label': 'Rich text of the file', class: 'prose', role: 'textbox' } },
      autofocus: true
    })
    setEditor(editor)
    return () => {
      setEditor(null)
      editor.destroy()
    }
  }, [provider])
  return (
    <div className="rich">
      {editor !== null && <Toolbar editor={editor} />}
      <div ref={place} className="page" />
    </div>
  )
}

const FORMATS = [
  Document,
  Paragraph,
  Text,
  Heading.configure({ levels: [1, 2, 3] }),
  Bold,
  Italic,
  Strike,
  Code,
  CodeBlock,
  Blockquote,
  BulletList,
  OrderedList,
  ListItem,
  ListKeymap,
  HardBreak,
  HorizontalRule
]

function collaboration(provider: HttpProvider) {
  return [
    Collaboration.configure({ document: provider.doc, field: RICH_ROOT }),
    CollaborationCaret.configure({
      provider: { awareness: guarded(provider.awareness) },
      user: userOf(currentPerson()),
      render: caret,
      selectionRender: selection
    })
  ]
}

/** Names of other clients are shown as text, and their colours are validated. */
function caret(user: unknown): HTMLElement {
  const person = personOf({ user }) ?? { name: 'Somebody', color: '#5b6572' }
  const caret = Object.assign(document.createElement('span'), { className: 'rich-caret' })
  caret.style.borderColor = person.color
  const label = Object.assign(document.createElement('span'), {
    className: 'rich-caret-name',
    textContent: person.name
  })
  label.style.backgroundColor = person.color
  caret.append(label)
  return caret
}

function selection(user: unknown) {
  const color = personOf({ user })?.color ?? '#5b6572'
  return { nodeName: 'span', style: `background-color: ${color}33` }
}

interface Tool {
  name: string
  label: string
  run(editor: Editor): void
  isOn(editor: Editor): boolean
}

const TOOLS: Tool[] = [
  mark('bold', 'B', 'Bold', (editor) => editor.chain().focus().toggleBold().run()),
  mark('italic', 'I', 'Italic', (editor) => editor.chain().focus().toggleItalic().run()),
  mark('code', '<>', 'Code', (editor) => editor.chain().focus().toggleCode().run()),
  heading(1),
  heading(2),
  mark('bulletList', '•', 'Bullet list', (editor) => editor.chain().focus().toggleBulletList().run()),
  mark('orderedList', '1.', 'Numbered list', (editor) => editor.chain().focus().toggleOrderedList().run()),
  mark('blockquote', '❝', 'Quote', (editor) => editor.chain().focus().toggleBlockquote().run())
]

function mark(type: string, label: string, name: string, run: (editor: Editor) => void): Tool {
  return { name, label, run, isOn: (editor) => editor.isActive(type) }
}

function heading(level: 1 | 2): Tool {
  return {
    name: `Heading ${level}`,
    label: `H${level}`,
    run: (editor) => editor.chain().focus().toggleHeading({ level }).run(),
    isOn: (editor) => editor.isActive('heading', { level })
  }
}

function Toolbar({ editor }: { editor: Editor }) {
  const [, update] = useReducer((count: number) => count + 1, 0)
  useEffect(() => {
    editor.on('transaction', update)
    return () => void editor.off('transaction', update)
  }, [editor])
  return (
    <div className="formats" role="toolbar" aria-label="Format">
      {TOOLS.map(({ name, label, run, isOn }) => (
        <button
          key={name}
          type="button"
          className={`quiet format-${name.split(' ')[0]?.toLowerCase()}`}
          title={name}
          aria-label={name}
          aria-pressed={isOn(editor)}
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => run(editor)}
        >
          {label}
        </button>
      ))}
    </div>
  )
}
