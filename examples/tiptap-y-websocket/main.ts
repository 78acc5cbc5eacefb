import { Editor } from '@tiptap/core'
import { Collaboration } from '@tiptap/extension-collaboration'
import { CollaborationCaret } from '@tiptap/extension-collaboration-caret'
import { StarterKit } from '@tiptap/starter-kit'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { project, user } from '../shared/person.js'
import '../shared/tiptap.css'

const doc = new Y.Doc()
const server = `${location.origin.replace('http', 'ws')}/api/projects/${project}/ws`
const provider = new WebsocketProvider(server, 'examples/tiptap.doc', doc)

new Editor({
  element: document.querySelector<HTMLElement>('#editor'),
  extensions: [
    StarterKit.configure({ undoRedo: false }), // Collaboration has its own undo
    Collaboration.configure({ document: doc }),
    CollaborationCaret.configure({ provider, user })
  ]
})
