// Certificates for a case: an authority of its own, and what it signs.
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { scratch } from './hub.mjs'

const openssl = (folder, ...args) => execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

/** OpenSSL 3.4 and later refuse an end before the start, but can set both. */
const OVER = () => {
  const { stdout, stderr } = spawnSync('openssl', ['x509', '-help'], { encoding: 'utf8' })
  return (stdout + stderr).includes('not_after') ? ['-not_before', '20200101000000Z', '-not_after', '20200102000000Z'] : ['-days', '-1']
}

export class Authority {
  constructor(t) {
    this.folder = scratch(t)
    this.file = join(this.folder, 'ca.pem')
    openssl(this.folder, 'req', '-x509', ...KEY, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=test authority')
  }

  get ca() { return readFileSync(this.file) }

  /** {cert, key}: files. `names` as subjectAltName; `signed: false`: self-signed; `over: true`: expired. */
  issue(name, { names = 'DNS:localhost,IP:127.0.0.1', signed = true, over = false } = {}) {
    const [cert, key] = [join(this.folder, `${name}.pem`), join(this.folder, `${name}.key`)]
    if (!signed) {
      openssl(this.folder, 'req', '-x509', ...KEY, '-keyout', key, '-out', cert, '-days', '2', '-subj', `/CN=${name}`,
        '-addext', `subjectAltName=${names}`)
      return { cert, key }
    }
    openssl(this.folder, 'req', ...KEY, '-keyout', key, '-out', `${name}.csr`, '-subj', `/CN=${name}`)
    writeFileSync(join(this.folder, `${name}.ext`), `subjectAltName=${names}`)
    openssl(this.folder, 'x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial',
      ...(over ? OVER() : ['-days', '2']), '-extfile', `${name}.ext`, '-out', cert)
    return { cert, key }
  }
}
