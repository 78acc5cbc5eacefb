// Prints the size of each part of this package, and of the providers it is compared with: minified by esbuild and
// gzipped, without Yjs, React and TanStack Query. Needs a build.
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const PEERS = ['yjs', 'lib0', 'y-protocols', 'react', '@tanstack/react-query']
const PARTS = {
  'core: every request, polling': "export * from './dist/index.js'",
  'core without what is not used: `TurnPoller` alone': "export { TurnPoller } from './dist/index.js'",
  'provider, with the core that it needs': "export { HttpProvider } from './dist/provider/index.js'",
  'hooks, with the provider and the core': "export * from './dist/react/index.js'",
  'for comparison: `y-websocket`': "export { WebsocketProvider } from 'y-websocket'",
  'for comparison: `@hocuspocus/provider`': "export { HocuspocusProvider } from '@hocuspocus/provider'"
}

/** The gzipped size in bytes. */
async function sizeOf(contents) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: new URL('..', import.meta.url).pathname },
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    outdir: 'out',
    splitting: true,
    external: [
      ...PEERS.flatMap((peer) => [peer, `${peer}/*`]),
      ...(contents.includes('y-websocket') ? [] : ['y-websocket'])
    ]
  })
  return outputFiles.reduce((bytes, file) => bytes + gzipSync(file.contents, { level: 9 }).length, 0)
}

for (const [part, contents] of Object.entries(PARTS)) {
  console.log(`| ${part} | ${((await sizeOf(contents)) / 1000).toFixed(1)} kB |`)
}
