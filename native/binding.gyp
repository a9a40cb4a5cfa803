{
  # Linux only: elsewhere the portable driver is used (src/fuse/portable-driver.ts), and nothing is compiled.
  "targets": [
    {
      "target_name": "sealdrive",
      "conditions": [
        ["OS=='linux'", {
          "sources": [
            "src/addon.cc",
            "src/aead.cc",
            "src/job.cc",
            "src/mount.cc",
            "src/session.cc",
            "src/notify.cc",
            "src/process.cc"
          ]
        }, { "type": "none" }]
      ],
      "defines": ["NAPI_VERSION=9", "_GNU_SOURCE"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++1y"],
      "cflags_cc": ["-std=c++20", "-O2", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"],
      "ldflags": ["-Wl,-z,relro,-z,now"]
    }
  ]
}
