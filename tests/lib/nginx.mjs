// nginx as load balancer in front of hubs, with the settings a WebSocket needs.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Child } from './process.mjs'
import { freePort } from './ports.mjs'
import { request } from './net.mjs'
import { until } from './until.mjs'

const configuration = (folder, port, hubs) => `
daemon off;
pid ${folder}/pid;
error_log ${folder}/error.log;
worker_processes 1;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path ${folder}; proxy_temp_path ${folder}; fastcgi_temp_path ${folder};
  uwsgi_temp_path ${folder}; scgi_temp_path ${folder};
  upstream hubs {
${hubs.map((hub) => `    server 127.0.0.1:${hub.port};`).join('\n')}
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://hubs;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_read_timeout 1h;
    }
  }
}
`

/** Starts nginx in front of the hubs: {port, url(path)}. */
export async function startNginx(t, hubs) {
  const folder = mkdtempSync(join(tmpdir(), 'vinhub-nginx-'))
  const port = await freePort()
  writeFileSync(join(folder, 'nginx.conf'), configuration(folder, port, hubs))
  const child = new Child('nginx', ['-p', folder, '-e', join(folder, 'error.log'), '-c', join(folder, 'nginx.conf')])
  t.defer(async () => {
    await child.stop('SIGTERM')
    rmSync(folder, { recursive: true, force: true })
  })
  await until(() => request(port, '/'), 5000, () => `nginx to answer: ${child.err}`)
  return { port, url: (path) => `ws://127.0.0.1:${port}${path}` }
}
