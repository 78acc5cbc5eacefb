import { HocuspocusProvider } from '@hocuspocus/provider'
import { Editor } from '@tiptap/core'
import { Collaboration } from '@tiptap/extension-collaboration'
import { CollaborationCaret } from '@tiptap/extension-collaboration-caret'
import { StarterKit } from '@tiptap/starter-kit'
import { project, user } from '../shared/person.js'
import '../shared/tiptap.css'

const provider = new HocuspocusProvider({
  url: `${location.origin.replace('http', 'ws')}/api/projects/${project}/hocuspocus`,
  name: 'examples/tiptap.doc'
})

new Editor({
  element: document.querySelector<HTMLElement>('#editor'),
  extensions: [
    StarterKit.configure({ undoRedo: false }), // Collaboration has its own undo
    Collaboration.configure({ document: provider.document }),
    CollaborationCaret.configure({ provider, user })
  ]
})
