// A page that keeps one document the same as its file: `?way=&project=&path=`. Bundled for each run.
import { HttpProvider } from '../../web/src/provider/index.ts'
import * as Y from 'yjs'

const query = new URLSearchParams(location.search)
const [way, project, path] = ['way', 'project', 'path'].map((name) => query.get(name))
const doc = new Y.Doc()

/** The first thing that one writes: the whole file, every three seconds, whatever happens. */
async function naive() {
  const ask = async () => {
    const answer = await fetch(`/api/projects/${project}/files/${path}`, { cache: 'no-store' })
    Y.applyUpdate(doc, new Uint8Array(await answer.arrayBuffer()))
    document.body.dataset.ready = 'true'
  }
  setInterval(ask, 3_000)
  await ask()
}

if (way === 'setInterval') await naive()
else {
  const provider = new HttpProvider(location.origin, project, path, doc, { transport: way })
  provider.on('sync', (synced) => {
    if (synced) document.body.dataset.ready = 'true'
  })
}
