// Builds GraphiQL into gateway/graphiql, or into the given folder. The gateway serves GraphiQL at /graphiql.
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'

const here = import.meta.dirname
const folder = resolve(process.argv[2] ?? join(here, '..', '..', 'gateway', 'graphiql'))

await rm(folder, { recursive: true, force: true })
await mkdir(folder, { recursive: true })
await build({
  absWorkingDir: here,
  entryPoints: { graphiql: join(here, 'main.tsx') },
  outdir: folder,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  legalComments: 'none',
  define: { 'process.env.NODE_ENV': '"production"' }
})
// Remove the fonts, 370 KB of the style sheet: the browser has its own.
const sheet = join(folder, 'graphiql.css')
const css = await readFile(sheet, 'utf8')
await writeFile(sheet, css.replaceAll(/@font-face\{[^}]*\}/g, ''))
await copyFile(join(here, 'index.html'), join(folder, 'index.html'))
