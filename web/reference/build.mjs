// Builds the API reference into gateway/reference, or into the given folder. The gateway serves the reference at /docs.
import { copyFile, mkdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'

const here = import.meta.dirname
const folder = resolve(process.argv[2] ?? join(here, '..', '..', 'gateway', 'reference'))

await rm(folder, { recursive: true, force: true })
await mkdir(folder, { recursive: true })
await build({
  absWorkingDir: here,
  entryPoints: { reference: join(here, 'main.ts') },
  outdir: folder,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  legalComments: 'none',
  loader: { '.svg': 'dataurl' },
  define: { 'process.env.NODE_ENV': '"production"' }
})
await copyFile(join(here, 'index.html'), join(folder, 'index.html'))
