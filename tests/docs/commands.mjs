// Each command that a document shows, in `sh` blocks and inside text. A row says how it is tested:
//   run    what is run for it in a folder that has build/ (the programs), vinhub.yaml and the sources; a function of the match
//   suite  the file that does the same, and a text that shows it there
// A command without a row fails the test: add one that runs it, or name who runs it.
const asIs = ([command]) => command
/** The folder of the sources, and the simulation: filled in where a command is run. */
export const ROOT_OF = '@ROOT@'
export const SIM_OF = '@SIM@'

export const COMMANDS = [
  // vinhub: a command that would keep running is only checked
  { command: /^build\/vinhub (?=.*--(check|print-config)).*$/, run: asIs },
  { command: /^build\/vinhub --service \S+$/, run: ([command]) => `${command} --check`, suite: 'tests/e2e/quickstart.test.mjs', shows: '--service' },
  { command: /^vinhub --check -c \/etc\/vinhub\/vinhub.yaml && systemctl enable --now vinhub$/, suite: 'tests/package/run', shows: '--check' },

  { command: /^(\.\/)?scripts\/run$/, suite: 'tests/smoke/run', shows: 'scripts/run --check' },
  { command: /^(\.\/)?scripts\/test$/, suite: 'tests/newcomer/run', shows: 'scripts/test' },
  { command: /^scripts\/test (?:--quick ?)?([a-z0-9 ]*)$/, run: ([, suites]) => suites.split(' ').filter(Boolean)
    .map((suite) => `{ test -x ${ROOT_OF}/tests/${suite}/run || grep -q "^ctest_suites=.*${suite}" ${ROOT_OF}/scripts/test; }`).join(' && ') || 'true' },
  { command: /^scripts\/setup( \w+)?$/, suite: 'tests/setup/run', shows: 'scripts/setup' },
  { command: /^cmake --preset (\w+)( -B \S+)?$/, run: ([, preset]) => `cd ${ROOT_OF} && cmake --list-presets | grep -q '"${preset}"'` },
  { command: /^cmake --build (build|build\/dev)$/, suite: 'scripts/test', shows: 'cmake --build' },
  { command: /^cmake --build build\/dev --target (tidy)$/, run: ([, target]) => `grep -q 'add_custom_target(${target} ' ${ROOT_OF}/CMakeLists.txt` },
  { command: /^ctest --test-dir build\/dev -L '\^(\w+)\$'$/, run: ([, label]) => `grep -q '${label}' ${ROOT_OF}/tests/CMakeLists.txt` },
  { command: /^build\/(?:dev\/)?tests\/sim\/sim (.*)$/, run: ([, options]) => `${SIM_OF} ${options.replace(/--count \d+/, '--count 1')}` },
  { command: /^tests\/fuzz\/run ([a-z ]+)$/, run: ([, names]) => names.split(' ')
    .map((name) => `ls ${ROOT_OF}/tests/fuzz | grep -qE '^(fuzz_)?${name}\\.(c|mjs)$'`).join(' && ') },

  // packages
  { command: /^cmake --preset release && cmake --build build --target package$/, suite: 'tests/package/run', shows: '--target package' },
  { command: /^apt install \.\/build\/vinhub_[\d.]+_amd64\.deb$/, suite: 'tests/package/run', shows: 'apt-get' },
  { command: /^editor \/etc\/vinhub\/vinhub\.yaml$/, suite: 'tests/package/run', shows: '/etc/vinhub/vinhub.yaml' },
  { command: /^cmake -S \. -B build\/arm64 /, suite: 'scripts/package/stage.cmake', shows: 'VINHUB' },
  { command: /^cmake --build build\/arm64 --target package$/, suite: 'scripts/package/stage.cmake', shows: 'VINHUB' },

  // Docker
  { command: /^docker compose up --build --scale hub=3$/, suite: 'tests/docker/stack.test.mjs', shows: "'up', '-d', '--no-build', '--no-recreate', '--scale'" },
  { command: /^docker buildx build .* -f docker\/Dockerfile --target hub /, suite: 'docker/Dockerfile', shows: ' AS hub' },
  { command: /^docker run --rm --platform linux\/arm64 /, suite: 'scripts/setup', shows: 'build' },
  { command: /^for id in \$\(docker compose ps -q hub\); do docker restart /, suite: 'tests/docker/stack.test.mjs', shows: "'restart'" },
  { command: /^docker\/update$/, suite: 'tests/docker/stack.test.mjs', shows: "'docker/update'" },

  { command: /^redis-cli .*$/, run: asIs },
]
