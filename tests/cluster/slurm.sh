#!/usr/bin/env bash
# A real Slurm of one node, on the loopback address, for tests.
#
#   tests/cluster/slurm.sh start     # install if missing, start what does not run, wait until the node takes jobs
#   tests/cluster/slurm.sh status    # exit status 0 when the node takes jobs
#   tests/cluster/slurm.sh stop      # cancel the jobs and end the three daemons
#
# Needs root. Configuration, keys, sockets, logs and state lie in one folder; /etc is not touched. No systemd, no
# accounting database. Only `start` prints to stdout, and only the export line.
#
# Environment: REGULONFORMER_SLURM_DIR (the folder), REGULONFORMER_SLURM_PORT (first of two ports, default 16817).
set -euo pipefail

wait_s=60 # each wait below ends after this many seconds
dir="${REGULONFORMER_SLURM_DIR:-/run/regulonformer-slurm}"
port="${REGULONFORMER_SLURM_PORT:-16817}"
export SLURM_CONF="$dir/slurm.conf"
# Snakemake's jobstep plugin hides SLURM_CONF from the srun inside a job. srun then looks in /etc/slurm, and next
# here, where a node without own configuration keeps a copy: so this link, and no other Slurm beside ours.
found_by_srun=/run/slurm/conf/slurm.conf
export PATH="$PATH:/usr/sbin:/sbin" # the daemons lie there, and not every shell looks there

say() { echo "slurm.sh: $*" >&2; }

die() {
  say "$1"
  shift
  for log in "$@"; do
    [ -s "$log" ] && { say "last lines of $log:"; tail -n 20 "$log" >&2; }
  done
  exit 1
}

install_packages() {
  local tool missing=""
  for tool in munged slurmctld slurmd sbatch srun squeue sinfo; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
  done
  [ -z "$missing" ] && return
  say "not installed:$missing; installing the Debian packages slurm-wlm and munge"
  command -v apt-get >/dev/null || die "no apt-get here. Install Slurm and MUNGE by hand and start again"
  mkdir -p "$dir"
  local log="$dir/apt.log" packages=(--no-install-recommends slurm-wlm munge)
  local apt=(timeout 600 apt-get -y -o DPkg::Lock::Timeout=300)
  # policy-rc.d 101 keeps the packages from starting their own daemons; a container has no init to do it either.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  "${apt[@]}" install "${packages[@]}" >"$log" 2>&1 </dev/null ||
    { "${apt[@]}" update >>"$log" 2>&1 </dev/null && "${apt[@]}" install "${packages[@]}" >>"$log" 2>&1 </dev/null; } ||
    die "apt-get could not install slurm-wlm and munge" "$log"
}

write_config() {
  local host address bind=""
  host="$(hostname -s)"
  # With these two words the daemons bind to the address of the host name instead of every interface. They are
  # only right when that name resolves to loopback; else Slurm still talks over 127.0.0.1, but listens on all.
  address="$(getent ahostsv4 "$host" | awk 'NR == 1 {print $1}' || true)"
  case "$address" in
    127.*) bind="CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" ;;
    *)
      address=127.0.0.1
      say "the host name '$host' does not resolve to loopback: the daemons listen on every interface"
      ;;
  esac
  cat >"$dir/slurm.conf" <<CONF
ClusterName=regulonformer
SlurmctldHost=$host($address)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
$bind
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
# A container has no cgroups to write to: follow processes through /proc, and pin nothing.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MailProg=/bin/true
PropagateResourceLimits=NONE
# CPUs and memory are what jobs ask for; the node is what this file says, not what slurmd measures.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
DefMemPerCPU=500
# Refuse at once what can never start, instead of leaving it pending for ever.
EnforcePartLimits=ALL
# A node that was down (the machine slept, the daemon was killed) takes jobs again by itself.
ReturnToService=2
# Without accounting a job's end can be asked for only while the controller remembers it.
MinJobAge=3600
KillWait=5
NodeName=local1 NodeHostname=$host NodeAddr=$address Port=$((port + 1)) CPUs=$(nproc) RealMemory=$(memory_mb) State=UNKNOWN
PartitionName=main Nodes=local1 Default=YES MaxTime=INFINITE State=UP
CONF
}

memory_mb() { # nine tenths of the machine, in MB: the daemons and the controller's Snakemake need some too
  awk '/^MemTotal:/ {printf "%d", $2 / 1024 * 0.9}' /proc/meminfo
}

running() { # running NAME: the process in the pid file lives, and is that daemon (a dead one may stay a zombie)
  local pid comm state
  pid="$(cat "$dir/$1.pid" 2>/dev/null)" && [ -n "$pid" ] || return 1
  read -r _ comm state _ 2>/dev/null <"/proc/$pid/stat" && [ "$comm" = "($1)" ] && [ "$state" != Z ]
}

wait_for() { # wait_for WHAT LOG COMMAND...: bounded wait until the command succeeds
  local what="$1" log="$2" end=$((SECONDS + wait_s))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || die "$what after $wait_s s" "$dir/$log.start" "$dir/$log.log"
    sleep 0.3
  done
}

launch() { # launch NAME COMMAND...: start a daemon unless it runs; it puts itself in the background
  local name="$1"
  shift
  running "$name" && return
  rm -f "$dir/$name.pid"
  "$@" >"$dir/$name.start" 2>&1 </dev/null || die "$name did not start" "$dir/$name.start" "$dir/$name.log"
  wait_for "$name is not running" "$name" running "$name"
}

munge_answers() { munge -S "$dir/munge.socket" -n | unmunge -S "$dir/munge.socket"; }
controller_answers() { timeout 10 scontrol ping | grep -q UP; }
node_ready() { timeout 10 sinfo --noheader --format=%T | grep -qxE 'idle|mixed|allocated'; }
jobs_gone() { [ -z "$(timeout 10 squeue --noheader 2>/dev/null)" ]; }

start() {
  [ "$(id -u)" -eq 0 ] || die "starting daemons needs root. Run it as root, or test on a cluster of your own"
  local other
  for other in /etc/slurm/slurm.conf "$found_by_srun"; do
    [ ! -e "$other" ] || [ "$(readlink -f "$other")" = "$(readlink -f "$SLURM_CONF")" ] ||
      die "this machine has a Slurm of its own ($other). Use that one: REGULONFORMER_SLURM=1 pytest -m slurm"
  done
  install_packages
  umask 022
  mkdir -p "$dir"/{state,spool,munge}
  chmod 700 "$dir/munge"
  if ! running munged; then
    (umask 077 && head -c 128 /dev/urandom >"$dir/munge/munge.key")
    launch munged munged --force --num-threads=2 --key-file="$dir/munge/munge.key" --seed-file="$dir/munge/seed" \
      --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" --log-file="$dir/munged.log"
  fi
  wait_for "MUNGE does not answer" munged munge_answers
  # A running controller keeps the configuration that it was started with.
  running slurmctld || write_config
  mkdir -p "$(dirname "$found_by_srun")"
  ln -sfn "$SLURM_CONF" "$found_by_srun"
  launch slurmctld slurmctld
  wait_for "slurmctld does not answer" slurmctld controller_answers
  launch slurmd slurmd
  wait_for "the node is not idle" slurmd node_ready
  say "$(sinfo --noheader --format='node %N: %T, %c CPUs, %m MB, partition %P')"
  echo "export SLURM_CONF=$SLURM_CONF"
}

stop() {
  local name pid end
  # Jobs first, while a daemon is there to end them: a job outlives the daemon that started it.
  if running slurmctld; then
    timeout 10 scancel --user="$(id -un)" >&2 || true
    end=$((SECONDS + 15))
    until jobs_gone || [ "$SECONDS" -ge "$end" ]; do sleep 0.3; done
  fi
  for name in slurmd slurmctld munged; do
    running "$name" || continue
    pid="$(cat "$dir/$name.pid")"
    kill "$pid" 2>/dev/null || true
    end=$((SECONDS + 15))
    while running "$name" && [ "$SECONDS" -lt "$end" ]; do sleep 0.2; done
    if running "$name"; then
      say "$name (process $pid) did not end by itself: killed"
      kill -9 "$pid" 2>/dev/null || true
    fi
    rm -f "$dir/$name.pid"
  done
  # Job numbers and states of a stopped controller must not come back; the logs stay to be read.
  if [ "$(readlink "$found_by_srun" || true)" = "$SLURM_CONF" ]; then rm -f "$found_by_srun"; fi
  rm -rf "$dir"/{state,spool,munge,munge.socket,munge.socket.lock,slurm.conf}
}

case "${1:-}" in
  start) start ;;
  stop) stop ;;
  status) running slurmctld && node_ready && sinfo >&2 ;;
  *) die "usage: slurm.sh start|stop|status" ;;
esac
