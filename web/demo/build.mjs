// Builds the demo into gateway/demo, or into the folder that is named. The gateway serves it at /.
import { copyFile, mkdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'

const here = import.meta.dirname
const folder = resolve(process.argv[2] ?? join(here, '..', '..', 'gateway', 'demo'))

await rm(folder, { recursive: true, force: true })
await mkdir(folder, { recursive: true })
await build({
  absWorkingDir: here,
  entryPoints: { demo: join(here, 'main.tsx') },
  outdir: folder,
  bundle: true,
  minify: true,
  format: 'esm',
  splitting: true, // y-websocket is loaded where it is chosen
  chunkNames: '[name]-[hash]',
  target: 'es2022',
  jsx: 'automatic',
  alias: { 'lib0/dom': join(here, 'elements.ts') }, // y-codemirror.next makes carets with it
  legalComments: 'none',
  define: { 'process.env.NODE_ENV': '"production"' }
})
await build({ entryPoints: { demo: join(here, 'style.css') }, outdir: folder, minify: true, bundle: true })
await copyFile(join(here, 'index.html'), join(folder, 'index.html'))
