/** A page with a stock editor on a provider: `?editor=tiptap|lexical&project=&path=&transport=&name=`. */
import { LexicalCollaboration } from '@lexical/react/LexicalCollaborationContext'
import { CollaborationPlugin } from '@lexical/react/LexicalCollaborationPlugin'
import { LexicalComposer } from '@lexical/react/LexicalComposer'
import { ContentEditable } from '@lexical/react/LexicalContentEditable'
import { LexicalErrorBoundary } from '@lexical/react/LexicalErrorBoundary'
import { RichTextPlugin } from '@lexical/react/LexicalRichTextPlugin'
import type { Provider } from '@lexical/yjs'
import { Editor } from '@tiptap/core'
import Collaboration from '@tiptap/extension-collaboration'
import CollaborationCaret from '@tiptap/extension-collaboration-caret'
import Document from '@tiptap/extension-document'
import Paragraph from '@tiptap/extension-paragraph'
import Text from '@tiptap/extension-text'
import { createRoot } from 'react-dom/client'
import * as Y from 'yjs'
import { HttpProvider, type ProviderTransport } from '../../src/provider/index.js'

const query = new URLSearchParams(location.search)
const of = (name: string) => query.get(name) ?? ''
const user = { name: of('name'), color: '#ff0000' }

function provide(doc: Y.Doc, connect: boolean): HttpProvider {
  const options = { transport: of('transport') as ProviderTransport, interval: 100, connect }
  const provider = new HttpProvider(location.origin, of('project'), of('path'), doc, options)
  provider.on('sync', (synced) => {
    document.body.dataset.synced = String(synced)
  })
  return provider
}

function tiptap(element: HTMLElement): void {
  const document = new Y.Doc()
  const provider = provide(document, true)
  const extensions = [
    Document,
    Paragraph,
    Text,
    Collaboration.configure({ document }),
    CollaborationCaret.configure({ provider, user })
  ]
  new Editor({ element, extensions })
}

function Lexical() {
  const provideDocument = (id: string, docs: Map<string, Y.Doc>) => {
    const doc = new Y.Doc()
    docs.set(id, doc)
    // Lexical's type of a provider has two more events, which are optional for a provider.
    return provide(doc, false) as unknown as Provider
  }
  const config = { namespace: 'test', editorState: null, onError: reportError }
  return (
    <LexicalCollaboration>
      <LexicalComposer initialConfig={config}>
        <RichTextPlugin contentEditable={<ContentEditable />} ErrorBoundary={LexicalErrorBoundary} />
        <CollaborationPlugin
          id={of('path')}
          providerFactory={provideDocument}
          shouldBootstrap={of('name') === 'one'}
          username={user.name}
          cursorColor={user.color}
        />
      </LexicalComposer>
    </LexicalCollaboration>
  )
}

const root = document.createElement('main')
root.style.cssText = 'display: block; min-height: 100px'
document.body.append(root)
if (of('editor') === 'tiptap') tiptap(root)
else createRoot(root).render(<Lexical />)
