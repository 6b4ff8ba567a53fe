"""Files of other programs: pixels of those in ``data``, and files written by a format's rules."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

DATA = Path(__file__).parent / "data"
NIFTI = Path(nib.__file__).parent / "tests" / "data"
DICOM = Path(pydicom.__file__).parent / "data" / "test_files"
CZI_SHAPE = (2, 2, 2, 48, 64)  # T, C, Z, Y, X of a scene of scenes.czi


def czi_pixels(scene: int) -> np.ndarray:
    """Return the pixels of a scene of ``scenes.czi``, as they were given to pylibCZIrw."""
    y, x = np.mgrid[:48, :64] / 9
    clean = 300 + 200 * np.sin(y) * np.cos(x)
    noise = np.random.RandomState(scene).standard_normal(CZI_SHAPE)
    return np.rint(clean + 12 * noise).astype(np.uint16)


def write_lif(path: Path, images: dict[str, np.ndarray], axes: str = "TCZYX") -> None:
    """Write a LIF file of images whose last axes are those given.

    A LIF file is an XML text in UTF-16 that says where each pixel is, followed by the pixels of
    each image, uncompressed.
    """
    ids = {"X": 1, "Y": 2, "Z": 3, "T": 4, "M": 10}
    lengths = {"X": 1e-7, "Y": 1e-7, "Z": 5e-7, "T": 2.0, "M": 1.0}  # of one step
    elements = []
    for number, (name, values) in enumerate(images.items()):
        sizes = dict(zip(axes[-values.ndim :], values.shape, strict=True))
        steps = dict(zip(sizes, values.strides, strict=True))
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="16" '
            f'NameOfMeasuredQuantity="" Min="0" Max="65535" Unit="" LUTName="{color}" '
            f'IsLUTInverted="0" BytesInc="{i * steps.get("C", 0)}" BitInc="0"/>'
            for i, color in enumerate(["Green", "Red"][: sizes.get("C", 1)])
        )
        dimensions = "".join(
            f'<DimensionDescription DimID="{ids[a]}" NumberOfElements="{n}" Origin="0" '
            f'Length="{lengths[a] * (n - 1)}" Unit="{"s" if a == "T" else "m"}" BitInc="0" '
            f'BytesInc="{steps[a]}"/>'
            for a, n in reversed(sizes.items())
            if a != "C"
        )
        elements.append(
            f'<Element Name="{name}" Visibility="1"><Data><Image><ImageDescription><Channels>'
            f"{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription>"
            f'</Image></Data><Memory Size="{values.nbytes}" MemoryBlockID="Block{number}"/>'
            "<Children/></Element>"
        )
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="p"><Data><Experiment/></Data>'
        '<Memory Size="0" MemoryBlockID="Block"/><Children>'
        f"{''.join(elements)}</Children></Element></LMSDataContainerHeader>"
    )
    with open(path, "wb") as file:
        file.write(struct.pack("<IIBI", 0x70, 5 + 2 * len(xml), 0x2A, len(xml)))
        file.write(xml.encode("utf-16-le"))
        for number, values in enumerate(images.values()):
            name = f"Block{number}"
            file.write(struct.pack("<IIBQB", 0x70, 14 + 2 * len(name), 0x2A, values.nbytes, 0x2A))
            file.write(struct.pack("<I", len(name)) + name.encode("utf-16-le"))
            file.write(values.tobytes())


def write_slice(path: Path, values: np.ndarray, **tags: object) -> None:
    """Write a DICOM slice of a patient, with further tags."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientBirthDate = "Doe^Jane", "ID-4711", "19700102"
    data.Modality, data.SamplesPerPixel = "MR", 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = values.shape[-2:]
    data.BitsAllocated = data.BitsStored = 8 * values.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    data.PixelSpacing, data.ImageOrientationPatient = [0.5, 0.25], [1, 0, 0, 0, 1, 0]
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = values.astype(values.dtype.newbyteorder("<")).tobytes()
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def write_series(folder: Path, values: np.ndarray, series: str = "1.2.3", **tags: object) -> None:
    """Write a DICOM file for each slice of a volume, 3 mm apart, under names without an order."""
    folder.mkdir(exist_ok=True)
    for z, plane in enumerate(values):
        write_slice(
            folder / f"IM{(7 * z) % 101:04d}{series[-1]}", plane, InstanceNumber=z + 1,
            ImagePositionPatient=[10.0, -20.0, 3.0 * z], SeriesInstanceUID=series, **tags,
        )  # fmt: skip


def write_imaris(path: Path, values: np.ndarray) -> None:
    """Write an Imaris file (T, C, Z, Y, X): arrays padded to chunks, texts of single bytes."""

    def text(value: object) -> np.ndarray:
        return np.array([c.encode() for c in str(value)], "S1")

    size = dict(zip("ZYX", values.shape[2:], strict=True))
    steps = {"Z": 0.5, "Y": 0.1, "X": 0.1}
    padded = [(0, -n % 8) for n in size.values()]
    with h5py.File(path, "w") as file:
        about = file.create_group("DataSetInfo/Image").attrs
        about["Unit"] = text("um")
        for number, axis in enumerate("XYZ"):
            about[axis] = text(size[axis])
            about[f"ExtMin{number}"] = text(0)
            about[f"ExtMax{number}"] = text(steps[axis] * size[axis])
        times = file.create_group("DataSetInfo/TimeInfo").attrs
        for t in range(len(values)):
            times[f"TimePoint{t + 1}"] = text(f"2024-01-01 10:{t // 2:02d}:{t % 2 * 30:02d}.000")
        for c, (name, color) in enumerate((("DAPI", "0 0 1"), ("GFP", "0 1 0"))):
            channel = file.create_group(f"DataSetInfo/Channel {c}").attrs
            channel["Name"], channel["Color"] = text(name), text(color)
        for t, c in np.ndindex(*values.shape[:2]):
            group = file.create_group(f"DataSet/ResolutionLevel 0/TimePoint {t}/Channel {c}")
            group.create_dataset("Data", data=np.pad(values[t, c], padded), chunks=(8, 8, 8))


def _copied(source: Path) -> Callable[[Path], object]:
    return lambda path: shutil.copyfile(source, path)


def _write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=czi_pixels(0)[0, 0], chunks=(1, 16, 16), compression="gzip")
        for dim, label in zip(file["raw"].dims, "zyx", strict=True):
            dim.label = label


#: A function that writes a valid file of each format, by its suffix.
EXAMPLES: dict[str, Callable[[Path], object]] = {
    ".nii": _copied(NIFTI / "functional.nii"),
    ".nii.gz": _copied(NIFTI / "example_nifti2.nii.gz"),
    ".mrc": _copied(DATA / "EMD-3197.map"),
    ".dcm": _copied(DICOM / "rtdose.dcm"),
    ".nd2": _copied(DATA / "cluster.nd2"),
    ".czi": _copied(DATA / "scenes.czi"),
    ".lif": lambda path: write_lif(path, {"a": czi_pixels(0)}),
    ".h5": _write_hdf5,
    ".ims": lambda path: write_imaris(path, czi_pixels(0)),
}
