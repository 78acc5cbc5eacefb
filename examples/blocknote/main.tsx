import '@blocknote/mantine/style.css'
import { BlockNoteView } from '@blocknote/mantine'
import { useCreateBlockNote } from '@blocknote/react'
import { createRoot } from 'react-dom/client'
import * as Y from 'yjs'
import { HttpProvider } from 'yjs-gateway/provider'
import { project, user } from '../shared/person.js'

const doc = new Y.Doc()
const provider = new HttpProvider({ url: location.origin, project, path: 'examples/blocknote.doc', doc })

function App() {
  const editor = useCreateBlockNote({
    collaboration: { provider, fragment: doc.getXmlFragment('document-store'), user }
  })
  return <BlockNoteView editor={editor} />
}

createRoot(document.querySelector('#editor') ?? document.body).render(<App />)
