import Quill from 'quill'
import QuillCursors from 'quill-cursors'
import { QuillBinding } from 'y-quill'
import * as Y from 'yjs'
import { HttpProvider } from 'yjs-gateway/provider'
import { project, user } from '../shared/person.js'
import 'quill/dist/quill.snow.css'

Quill.register('modules/cursors', QuillCursors)

const doc = new Y.Doc()
const provider = new HttpProvider({ url: location.origin, project, path: 'examples/quill.doc', doc })
provider.awareness.setLocalStateField('user', user)

const quill = new Quill('#editor', {
  theme: 'snow',
  modules: {
    cursors: true,
    history: { userOnly: true }, // undo only the edits of this user
    toolbar: [[{ header: [1, 2, false] }], ['bold', 'italic', 'link'], [{ list: 'bullet' }, 'code-block']]
  }
})
new QuillBinding(doc.getText('content'), quill, provider.awareness)
