import { LexicalCollaboration } from '@lexical/react/LexicalCollaborationContext'
import { CollaborationPlugin } from '@lexical/react/LexicalCollaborationPlugin'
import { LexicalComposer } from '@lexical/react/LexicalComposer'
import { ContentEditable } from '@lexical/react/LexicalContentEditable'
import { LexicalErrorBoundary } from '@lexical/react/LexicalErrorBoundary'
import { RichTextPlugin } from '@lexical/react/LexicalRichTextPlugin'
import type { Provider } from '@lexical/yjs'
import { useRef } from 'react'
import { createRoot } from 'react-dom/client'
import * as Y from 'yjs'
import { HttpProvider } from 'yjs-gateway/provider'
import { project, user } from '../shared/person.js'

/** Lexical connects the provider itself, after it has bound its editor to the document. */
function provide(path: string, docs: Map<string, Y.Doc>): Provider {
  const doc = new Y.Doc()
  docs.set(path, doc)
  // Lexical's type of a provider has two more events, which are optional for a provider.
  return new HttpProvider({ url: location.origin, project, path, doc, connect: false }) as unknown as Provider
}

function App() {
  const carets = useRef<HTMLDivElement>(null)
  const config = { namespace: 'example', editorState: null, onError: reportError } // null: the content comes from Yjs
  return (
    <LexicalCollaboration>
      <LexicalComposer initialConfig={config}>
        <RichTextPlugin contentEditable={<ContentEditable />} ErrorBoundary={LexicalErrorBoundary} />
        <CollaborationPlugin
          id="examples/lexical.doc"
          providerFactory={provide}
          shouldBootstrap={true}
          username={user.name}
          cursorColor={user.color}
          cursorsContainerRef={carets}
        />
        <div ref={carets} />
      </LexicalComposer>
    </LexicalCollaboration>
  )
}

createRoot(document.querySelector('#editor') ?? document.body).render(<App />)
