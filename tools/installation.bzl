# SPDX-License-Identifier: Apache-2.0
"""What tools/install copies: the public headers, found from the libraries that declare them."""

_PUBLIC = ("include/", "services/")

def _public_headers_impl(ctx):
    headers = depset(transitive = [dep[CcInfo].compilation_context.headers for dep in ctx.attr.deps]).to_list()

    # `strip_include_prefix` adds links to the headers under another path.
    headers = [header for header in headers if "/_virtual_includes/" not in header.short_path]
    for header in headers:
        if not header.short_path.startswith(_PUBLIC):
            fail("%s is needed by a public header, but only %s are installed" % (header.short_path, " and ".join(_PUBLIC)))
    manifest = ctx.actions.declare_file(ctx.label.name + ".txt")
    ctx.actions.write(manifest, "".join([header.short_path + "\n" for header in headers]))
    return DefaultInfo(
        files = depset([manifest]),
        runfiles = ctx.runfiles(files = headers + [manifest]),
    )

public_headers = rule(
    implementation = _public_headers_impl,
    attrs = {"deps": attr.label_list(providers = [CcInfo])},
    doc = "Lists, in NAME.txt, every header that the libraries `deps` and those below them declare, by its path from the root.",
)
