/** Serves the built pages and the stand-in API, and passes everything else on to a relay. */

import { readFile } from 'node:fs/promises'
import { type IncomingMessage, type Server, type ServerResponse, createServer, request as ask } from 'node:http'
import { type Socket, connect } from 'node:net'
import { extname, join, normalize } from 'node:path'

import { ChatApi, Refused, type Settings } from './api.ts'

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}
const PAGES = new Set(['/', '/visitor', '/agent', '/inspector'])

export interface StandIn {
  server: Server
  api: ChatApi
  close: () => Promise<void>
}

export async function serve(settings: Settings & { port: number; relayPort: number; pages: string }): Promise<StandIn> {
  const api = new ChatApi(settings)
  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => {
      const status = error instanceof Refused ? error.status : 500
      const detail = error instanceof Error ? error.message : String(error)
      response.writeHead(status, { 'content-type': 'application/problem+json' })
      response.end(JSON.stringify({ type: 'about:blank', status, title: detail, detail }))
    })
  })

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost')
    if (pathname.startsWith('/chat/v1/') || pathname === '/demo/token') {
      const { status, body } = await api.handle(request, pathname, searchParams)
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(body === undefined ? undefined : JSON.stringify(body))
    } else if (PAGES.has(pathname) || extname(pathname) !== '') {
      const file = PAGES.has(pathname) ? 'index.html' : normalize(pathname).replace(/^(\.\.[/\\])+/, '')
      const content = await readFile(join(settings.pages, file)).catch(() => {
        throw new Refused(404, 'There is no such file.')
      })
      response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' })
      response.end(content)
    } else {
      pass(request, response)
    }
  }

  function pass(request: IncomingMessage, response: ServerResponse): void {
    const { method, url, headers } = request
    const passed = ask({ host: '127.0.0.1', port: settings.relayPort, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    passed.on('error', () => response.writeHead(502).end())
    request.pipe(passed)
  }

  const sockets = new Set<Socket>()
  server.on('upgrade', (request, socket: Socket, head) => {
    const relay = connect(settings.relayPort, '127.0.0.1', () => {
      const lines = [`${request.method} ${request.url} HTTP/1.1`]
      for (let n = 0; n < request.rawHeaders.length; n += 2) lines.push(`${request.rawHeaders[n]}: ${request.rawHeaders[n + 1]}`)
      relay.write(`${lines.join('\r\n')}\r\n\r\n`)
      relay.write(head)
      relay.pipe(socket)
      socket.pipe(relay)
    })
    relay.setNoDelay(true)
    socket.setNoDelay(true)
    for (const [one, other] of [[relay, socket], [socket, relay]] as const) {
      sockets.add(one)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
    }
  })

  await new Promise<void>((resolve) => server.listen(settings.port, '127.0.0.1', resolve))
  return {
    server,
    api,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await api.close()
    },
  }
}
