// Builds the demo into gateway/demo, or into the given folder. The gateway serves the demo at /.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { build } from 'esbuild'

const here = import.meta.dirname
const folder = resolve(process.argv[2] ?? join(here, '..', '..', 'gateway', 'demo'))
const common = {
  absWorkingDir: here,
  outdir: folder,
  bundle: true,
  minify: true,
  target: 'es2022',
  legalComments: 'none',
  define: { 'process.env.NODE_ENV': '"production"' }
}

await rm(folder, { recursive: true, force: true })
await mkdir(folder, { recursive: true })
const { metafile } = await build({
  ...common,
  entryPoints: { demo: 'main.tsx' },
  format: 'esm',
  splitting: true, // editors, Markdown and the sample are loaded on demand
  chunkNames: '[name]-[hash]',
  jsx: 'automatic',
  alias: { 'lib0/dom': join(here, 'document', 'elements.ts') }, // y-codemirror.next creates carets with this module
  metafile: true
})
await build({ ...common, entryPoints: { 'service-worker': 'service-worker.ts' }, format: 'esm' })
await build({ ...common, entryPoints: { demo: 'styles/style.css' } })

/** Preload the static imports of the entry point. */
const outputs = Object.fromEntries(Object.entries(metafile.outputs).map(([path, output]) => [basename(path), output]))
const first = outputs['demo.js'].imports
  .filter(({ kind }) => kind === 'import-statement')
  .map(({ path }) => basename(path))
const preloads = first.map((name) => `<link rel="modulepreload" href="${name}">`).join('\n    ')
const index = await readFile(join(here, 'index.html'), 'utf8')
await writeFile(join(folder, 'index.html'), index.replace('<!-- preloads -->', preloads))
