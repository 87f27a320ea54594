"""Proxies of others in front of a node, each as Debian has it and with the fewest lines that make it one.

    with Proxies(directory, "127.0.0.1:3000") as proxies:
        proxies.at    # addresses by name; in place of one that is not installed, what is missing

Bodies of up to 100 MB pass, and nothing is tried again: an answer that a proxy lost is to be seen.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import time

NGINX = """
daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx-error.log; worker_processes 1; user root;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 100m; proxy_next_upstream off; keepalive_requests 1000000;
  client_body_temp_path {dir}/nginx-body; proxy_temp_path {dir}/nginx-proxy;
  fastcgi_temp_path {dir}/nginx-f; uwsgi_temp_path {dir}/nginx-u; scgi_temp_path {dir}/nginx-s;
  upstream node {{ server {node}; keepalive 16; }}
  server {{
    listen {nginx};
    location / {{ proxy_pass http://{node}; }}
  }}
  server {{
    listen {nginx_again};
    location / {{ proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
  server {{
    listen {nginx_streaming};
    location / {{
      proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 512
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen h1
  bind {haproxy}
  server node {node}
listen h2
  bind {haproxy_h2}
  server node {node} proto h2
"""

CADDY = """
{{
  admin off
  auto_https off
}}
http://{caddy} {{
  reverse_proxy {node}
}}
http://{caddy_h2} {{
  reverse_proxy h2c://{node}
}}
"""

# Names in the table, with the key of the address and the program (and Debian package) that listens there.
NAMES = {
    "nginx": ("nginx", "nginx", "nginx"),
    "nginx, keep-alive": ("nginx_again", "nginx", "nginx"),
    "nginx, streaming": ("nginx_streaming", "nginx", "nginx"),
    "HAProxy": ("haproxy", "haproxy", "haproxy"),
    "HAProxy, h2 behind": ("haproxy_h2", "haproxy", "haproxy"),
    "Caddy": ("caddy", "caddy", "caddy"),
    "Caddy, h2 behind": ("caddy_h2", "caddy", "caddy"),
    "Varnish": ("varnish", "varnishd", "varnish"),
}
# Until a proxy listens: Varnish compiles its configuration.
START_S = 30


class Proxies:
    """All proxies that are installed, running while it is entered."""

    def __init__(self, directory, node):
        self.directory, self.node = pathlib.Path(directory), node
        self.processes, self.at = {}, {}

    def __enter__(self):
        place = {key: f"127.0.0.1:{free()}" for key, _, _ in NAMES.values()}
        place |= {"dir": self.directory, "node": self.node}
        config = {}
        for program, text in (("nginx", NGINX), ("haproxy", HAPROXY), ("caddy", CADDY)):
            config[program] = self.directory / f"{program}.conf"
            config[program].write_text(text.format(**place))
        commands = {
            "nginx": ["nginx", "-e", f"{self.directory}/nginx-error.log", "-c", config["nginx"]],
            "haproxy": ["haproxy", "-db", "-f", config["haproxy"]],
            "caddy": ["caddy", "run", "--adapter", "caddyfile", "--config", config["caddy"]],
            "varnishd": ["varnishd", "-F", "-j", "none", "-n", self.directory / "varnish", "-T", "none", "-a", place["varnish"],
                         "-b", self.node, "-s", "malloc,64m", "-p", "first_byte_timeout=60"],
        }
        for name, (key, program, package) in NAMES.items():
            if not shutil.which(program):
                self.at[name] = f"apt-get install {package}"
                continue
            if program not in self.processes:
                with open(self.directory / f"{program}.log", "wb") as log:
                    self.processes[program] = subprocess.Popen(
                        commands[program], env=os.environ | {"HOME": str(self.directory)},
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.at[name] = place[key]
        for name, (_, program, _) in NAMES.items():
            if program in self.processes:
                self.await_listening(name, program)
        return self

    def await_listening(self, name, program):
        host, port = self.at[name].rsplit(":", 1)
        for _ in range(10 * START_S):
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
            if self.processes[program].poll() is not None:
                break
        log = (self.directory / f"{program}.log").read_text(errors="replace")
        self.__exit__()
        raise RuntimeError(f"{name} does not listen on {self.at[name]}:\n{log}")

    def __exit__(self, *_):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free():
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
