#!/usr/bin/env python3
"""Print what is installed in a folder as an SBOM (CycloneDX 1.6): Debian's packages and Python's.

    sbom.py NAME VERSION FOLDER

It needs what sbom-requirements.txt has. With SOURCE_DATE_EPOCH the same is printed each time.
"""

import email
import os
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PathDistribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OSI = "License :: OSI Approved :: "


def python_packages(folder: Path) -> dict[str, PathDistribution]:
    """Return the Python packages that are installed below `folder`, by their names."""
    found = [PathDistribution(path.parent) for path in folder.rglob("*.dist-info/METADATA")]
    return {canonicalize_name(package.metadata["Name"]): package for package in found}


def licences_of(package: PathDistribution) -> Iterator[License]:
    about = package.metadata
    make = LicenseFactory()
    if "License-Expression" in about:
        yield make.make_with_expression(about["License-Expression"])
        return
    classifiers = about.get_all("Classifier", [])
    named = [text.removeprefix(OSI) for text in classifiers if text.startswith(OSI)]
    for text in named or about.get_all("License", []):
        if "\n" not in text:  # some write the whole text there
            yield make.make_from_string(text)


def component_of(name: str, package: PathDistribution) -> Component:
    purl = PackageURL("pypi", None, name, package.version)
    return Component(
        name=name,
        version=package.version,
        purl=purl,
        bom_ref=str(purl),
        licenses=licences_of(package),
        description=package.metadata["Summary"],
    )


def needed_by(package: PathDistribution) -> Iterator[str]:
    """Yield the names of what a package needs on this machine, without its extras."""
    for text in package.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def debian_packages(folder: Path) -> Iterator[Component]:
    status = folder / "var/lib/dpkg/status"
    if not status.exists():
        return
    release = (folder / "etc/os-release").read_text().splitlines()
    system = {key: value.strip('"') for key, _, value in (line.partition("=") for line in release)}
    for paragraph in status.read_text(encoding="utf-8").strip().split("\n\n"):
        package = email.message_from_string(paragraph)
        if package["Status"] != "install ok installed":
            continue
        where = {"arch": package["Architecture"], "distro": system.get("VERSION_CODENAME", "")}
        purl = PackageURL("deb", system["ID"], package["Package"], package["Version"], where)
        yield Component(
            name=package["Package"], version=package["Version"], purl=purl, bom_ref=str(purl)
        )


def describe(name: str, version: str, folder: Path) -> Bom:
    packages = python_packages(folder)
    parts = {name: component_of(name, package) for name, package in packages.items()}
    of_debian = list(debian_packages(folder))
    whole = Component(
        type=ComponentType.APPLICATION, name=name, version=version, bom_ref=f"{name}@{version}"
    )
    bom = Bom(components=[*parts.values(), *of_debian])
    bom.metadata.component = whole
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    bom.metadata.timestamp = (
        datetime.fromtimestamp(int(seconds), UTC) if seconds else datetime.now(UTC)
    )
    contents = "\n".join(sorted(str(component.purl) for component in bom.components))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{name}@{version}\n{contents}")
    bom.register_dependency(whole, [*parts.values(), *of_debian])
    for name_of_part, package in packages.items():
        needed = [parts[other] for other in needed_by(package) if other in parts]
        bom.register_dependency(parts[name_of_part], needed)
    return bom


def main() -> None:
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    _, name, version, folder = sys.argv
    bom = describe(name, version, Path(folder))
    if not bom.components:
        raise SystemExit(f"sbom.py: no package is installed in {folder}")
    sys.stdout.write(JsonV1Dot6(bom).output_as_string(indent=1) + "\n")


if __name__ == "__main__":
    main()
