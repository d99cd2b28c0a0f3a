// Writes workflows/api/<name>.json from every workflows/<name>.json, through ComfyUI's own frontend.
//
//   npm install playwright-core                                   in a folder outside the repository
//   node <repository>/scripts/export_workflows.mjs [--thumbnails] [http://127.0.0.1:8188] [NAME ...]       from there
//
// Needs Debian's chromium (or CHROMIUM=<path>) and a running ComfyUI 0.30.0 that has this pack. With --thumbnails it
// also runs every workflow, those for real weights at 2 steps, and writes workflows/<name>.jpg; then ComfyUI needs the
// files the workflows name, which for liked_1.png ... and redraw.png may be posters of the demo's catalogue. What
// mini_poster names is in demo/comfyui after `make demo`: start ComfyUI with --base-directory there. The text generation
// of tag_with_text_generation takes a model of gigabytes: its picture is taken before it runs. NAME: only these.

import { readFile, readdir, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const { chromium } = createRequire(path.join(process.cwd(), 'x'))('playwright-core')
const FOLDER = fileURLToPath(new URL('../workflows', import.meta.url))
// The group that a thumbnail begins with.
const FIRST_GROUP = {
  build_pool: 0, interest_sweep: 5, mini_poster: 3, personalise_from_pictures: 1, personalise_poster: 1,
  tag_with_text_generation: 1,
}
const ONLY_THE_GRAPH = `
  #graph-canvas-container { position: fixed; inset: 0; z-index: 100000 }
  #graph-canvas-container > :not(#graph-canvas, .isolate), .p-toast { display: none }`
const QUICK = { steps: 2, width: 256, height: 256, batch_size: 1 }

const withThumbnails = process.argv.includes('--thumbnails')
const words = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const server = words.find((word) => word.startsWith('http')) ?? 'http://127.0.0.1:8188'
const names = words.filter((word) => !word.startsWith('http'))

async function open(browser, workflow) {
  const page = await browser.newPage({ viewport: { width: 900, height: 600 }, deviceScaleFactor: 1.25 })
  page.on('pageerror', (error) => { throw error })
  await page.goto(server, { waitUntil: 'domcontentloaded' })
  await page.waitForFunction(() => window.app?.graph && window.app.vueAppReady, null, { timeout: 60_000 })
  await page.evaluate((graph) => window.app.loadGraphData(graph), workflow)
  await page.waitForTimeout(2000) // growing inputs settle
  return page
}

async function run(page, changes) {
  await page.evaluate(async (changes) => {
    for (const node of window.app.graph.nodes)
      for (const widget of node.widgets ?? []) widget.value = changes[widget.name] ?? widget.value
    await window.app.queuePrompt(0, 1)
  }, changes)
  let queue
  do {
    await page.waitForTimeout(1000)
    queue = await (await fetch(`${server}/queue`)).json()
  } while (queue.queue_running.length + queue.queue_pending.length)
  await page.waitForTimeout(3000) // pictures arrive
}

async function thumbnail(page, name) {
  await page.addStyleTag({ content: ONLY_THE_GRAPH })
  await page.evaluate((first) => {
    const { canvas, graph } = window.app
    const left = graph.groups[first].pos[0] - 20
    const top = Math.min(...graph.groups.map((group) => group.pos[1])) - 20
    const bottom = Math.max(...graph.groups.map((group) => group.pos[1] + group.size[1])) + 20
    canvas.show_info = false
    canvas.min_font_size_for_lod = 0
    canvas.ds.scale = Math.min(window.innerHeight / (bottom - top), 0.65)
    canvas.ds.offset = [-left, window.innerHeight / canvas.ds.scale / 2 - (top + bottom) / 2]
    canvas.setDirty(true, true)
  }, FIRST_GROUP[name])
  await page.waitForTimeout(2000)
  await page.screenshot({ path: path.join(FOLDER, `${name}.jpg`), type: 'jpeg', quality: 70 })
}

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium'
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--enable-unsafe-swiftshader'] })
for (const file of (await readdir(FOLDER)).filter((x) => x.endsWith('.json'))) {
  const { name } = path.parse(file)
  if (names.length && !names.includes(name)) continue
  const page = await open(browser, JSON.parse(await readFile(path.join(FOLDER, file), 'utf8')))
  const { output } = await page.evaluate(() => window.app.graphToPrompt())
  await writeFile(path.join(FOLDER, 'api', file), JSON.stringify(output, null, 2) + '\n')
  if (withThumbnails) {
    if (name !== 'tag_with_text_generation') await run(page, name === 'mini_poster' ? {} : QUICK)
    await thumbnail(page, name)
  }
  await page.close()
}
await browser.close()
